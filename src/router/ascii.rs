//! Rewrites ASCII a block at a time. Every letter of every message goes through here three times,
//! so it is written for speed: no branch per letter, no memory touched but a block on the stack.

/// Bytes rewritten at once.
const BLOCK: usize = 64;

/// Appends what `rewrite` makes of the ASCII that `text` begins with, at most a block of it: for
/// each byte another one and whether that is kept (1 or 0). Returns what is left of `text`.
#[inline]
pub fn push<'a>(
    out: &mut Vec<u8>,
    text: &'a str,
    mut rewrite: impl FnMut(u8) -> (u8, usize),
) -> &'a str {
    let mut block = [0; BLOCK];
    let (mut end, mut read) = (0, 0);
    let ascii = text.bytes().take(BLOCK).take_while(u8::is_ascii);
    for byte in ascii {
        let (written, kept) = rewrite(byte);
        if let Some(place) = block.get_mut(end) {
            *place = written;
        }
        end += kept;
        read += 1;
    }
    out.extend_from_slice(block.split_at(end).0);
    text.split_at(read).1
}
