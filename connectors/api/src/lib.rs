//! The contract between the Switchboard daemon and a connector.
//!
//! A connector turns what one provider sends into [`InboundEvent`]s and what an agent writes into
//! provider calls. It sees this crate and nothing else of the daemon. It hands out the surfaces
//! that it has ([`WebhookSource`], [`PollSource`], [`StreamSource`], [`Sender`],
//! [`AttachmentSource`], [`Authorization`], [`Inventory`]); no method returns "unsupported". Retries, rate,
//! splitting, dedupe and durability belong to the daemon.
//!
//! Reading order: [`ids`], [`event`] (what comes in), [`outbound`] (what goes out), [`surface`]
//! (the traits), [`authorization`], [`inventory`], [`capability`], [`error`], [`context`],
//! [`credentials`], [`registration`].

pub mod authorization;
pub mod capability;
pub mod context;
pub mod credentials;
pub mod error;
pub mod event;
pub mod ids;
pub mod inventory;
pub mod outbound;
pub mod registration;
pub mod surface;

pub use async_trait::async_trait;
pub use authorization::{
    Authorization, AuthorizationRequest, AuthorizationStep, Begun, Progress, Way,
};
pub use bytes::Bytes;
pub use capability::{Capabilities, Check, Health, TextUnit};
pub use context::{
    BuildContext, Clock, HttpClient, HttpMethod, HttpRequest, HttpResponse, SecretRef,
    SecretResolver,
};
pub use credentials::{CREDENTIAL_BYTES_MAX, CREDENTIAL_NAME_BYTES_MAX, Credentials};
pub use error::{Error, ErrorKind, Result};
pub use event::{
    Attachment, AttachmentBody, Automatic, Defect, DeliveryStage, Event, EventKind, Evidence,
    IdentityClaim, InboundEvent, InboundMessage, Method, Participant, ParticipantRole,
    Sender as MessageSender, ThreadHints,
};
pub use ids::{BrandId, ChannelId, DedupeKey, Namespace, QueueId, reply_token_candidates};
pub use inventory::{INVENTORY_PAGE_MAX, Inventory, InventoryPages, ProviderItem, Standing};
pub use jiff::Timestamp;
pub use outbound::{
    FileContent, OutboundAttachment, OutboundMessage, ReadFile, Recipient, RefusedRecipient,
    SendReceipt,
};
pub use registration::{ConnectorKind, DAEMON_KEYS, Registration};
pub use secrecy::{ExposeSecret, SecretString};
pub use surface::{
    AttachmentSource, Backfill, Connector, Cursor, ImportFormat, InboundBatch, Intake, PollSource,
    Sender, StreamSource, WebhookOutcome, WebhookReply, WebhookRequest, WebhookSource,
};
pub use tokio_util::sync::CancellationToken;
