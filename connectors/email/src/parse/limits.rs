//! How much of one mail is looked at. Over a limit the mail is kept with its bytes and flagged;
//! what is left out is only the part of it that a conversation cannot use.

/// Longest header block read, in bytes. Real mail stays far below: 64 KiB is what large MTAs allow.
pub(crate) const HEADER_BYTES_MAX: usize = 64 * 1024;

/// Longest single header value that is decoded, in bytes.
pub(crate) const HEADER_VALUE_BYTES_MAX: usize = 16 * 1024;

/// Most MIME parts of one mail.
pub(crate) const PARTS_MAX: usize = 1_000;

/// Deepest nesting of multiparts.
pub(crate) const DEPTH_MAX: usize = 20;

/// Most addresses read from all address headers together.
pub(crate) const ADDRESSES_MAX: usize = 100;

/// Most message ids read from `References`; the nearest ones are the last.
pub(crate) const REFERENCES_MAX: usize = 100;

/// Longest message id that is compared, in bytes; RFC 5322 lines end at 998.
pub(crate) const MESSAGE_ID_BYTES_MAX: usize = 998;

/// Most `Received` headers of a mail that is not going in circles (RFC 5321, section 6.3, asks
/// for at least 100; real routes have under 20).
pub(crate) const RECEIVED_MAX: usize = 50;

/// Most bytes of text and HTML that are decoded, as they stand in the mail. Twelve times what the
/// daemon keeps readable of a plain text; a mail that is one long text would otherwise be in memory
/// several times.
pub(crate) const TEXT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Most bytes of a body that the text rules for bounces look at.
pub(crate) const BOUNCE_TEXT_BYTES_MAX: usize = 16 * 1024;

/// Most recipient groups read from one delivery status.
pub(crate) const DSN_RECIPIENTS_MAX: usize = 50;

/// Most defects listed for one mail.
pub(crate) const DEFECTS_MAX: usize = 20;
