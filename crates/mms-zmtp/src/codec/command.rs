//! Commands: READY and ERROR of the handshake, PING and PONG; others are known only so that they can be ignored.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::ProtocolError;

/// Properties of a READY, in order.
pub type Metadata = Vec<(String, Bytes)>;

/// A command of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Ends the handshake of a peer.
    Ready(Metadata),
    /// The peer refuses the connection, with its reason.
    Error(String),
    /// Asks for a PONG with the same context (at most 16 bytes).
    Ping {
        /// Tenths of a second of silence after which the peer may be taken for dead; 0 for never.
        ttl: u16,
        /// To be echoed.
        context: Bytes,
    },
    /// Answers a PING.
    Pong {
        /// The PING's context.
        context: Bytes,
    },
    /// Any other: SUBSCRIBE, CANCEL, commands of later versions.
    Other {
        /// Its name.
        name: String,
    },
}

const MAX_CONTEXT: usize = 16;

impl Command {
    /// Reads the body of a command frame.
    pub fn decode(mut body: Bytes) -> Result<Self, ProtocolError> {
        let name = take_short(&mut body).ok_or(ProtocolError::BadCommand("unnamed"))?;
        Ok(match &name[..] {
            b"READY" => Self::Ready(decode_metadata(body)?),
            b"ERROR" => {
                let reason = take_short(&mut body).ok_or(ProtocolError::BadCommand("ERROR"))?;
                Self::Error(String::from_utf8_lossy(&reason).into_owned())
            }
            b"PING" => {
                let ttl = body.try_get_u16().map_err(|_| ProtocolError::BadCommand("PING"))?;
                body.truncate(MAX_CONTEXT);
                Self::Ping { ttl, context: body }
            }
            b"PONG" => Self::Pong { context: body },
            other => Self::Other { name: other.escape_ascii().to_string() },
        })
    }

    /// Appends the body of a command frame to `dst`. Names and reasons beyond 255 bytes are cut.
    pub fn encode(&self, dst: &mut BytesMut) {
        match self {
            Self::Ready(metadata) => {
                put_short(dst, b"READY");
                for (name, value) in metadata {
                    put_short(dst, name.as_bytes());
                    dst.put_u32(value.len() as u32);
                    dst.put_slice(value);
                }
            }
            Self::Error(reason) => {
                put_short(dst, b"ERROR");
                put_short(dst, reason.as_bytes());
            }
            Self::Ping { ttl, context } => {
                put_short(dst, b"PING");
                dst.put_u16(*ttl);
                dst.put_slice(context);
            }
            Self::Pong { context } => {
                put_short(dst, b"PONG");
                dst.put_slice(context);
            }
            Self::Other { name } => put_short(dst, name.as_bytes()),
        }
    }
}

fn decode_metadata(mut body: Bytes) -> Result<Metadata, ProtocolError> {
    const BAD: ProtocolError = ProtocolError::BadCommand("READY");
    let mut metadata = Metadata::new();
    while !body.is_empty() {
        let name = take_short(&mut body).ok_or(BAD)?;
        let len = body.try_get_u32().map_err(|_| BAD)? as usize;
        if len > body.len() {
            return Err(BAD);
        }
        metadata.push((name.escape_ascii().to_string(), body.split_to(len)));
    }
    Ok(metadata)
}

/// Takes a string with one byte of length in front.
fn take_short(body: &mut Bytes) -> Option<Bytes> {
    let len = body.try_get_u8().ok()? as usize;
    (len <= body.len()).then(|| body.split_to(len))
}

fn put_short(dst: &mut BytesMut, text: &[u8]) {
    let len = text.len().min(255);
    dst.put_u8(len as u8);
    dst.put_slice(&text[..len]);
}
