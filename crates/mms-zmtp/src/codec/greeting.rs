//! The 64 bytes that open a connection.
//!
//! ```text
//! 0xFF  8 x padding  0x7F  │ major  minor │ mechanism, 20 bytes │ as-server │ 31 x 0
//! ```
//! libzmq sends the first 10 bytes and waits for the other's before it goes on; paddings differ. So only byte 0 and bit 0 of byte 9
//! are looked at, as soon as they are there.

use bytes::{Buf, Bytes, BytesMut};

use crate::{Mechanism, ProtocolError};

/// Bytes of a greeting.
pub const GREETING_LEN: usize = 64;
const SIGNATURE_LEN: usize = 10;
const MECHANISM: std::ops::Range<usize> = 12..32;

/// A peer's greeting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// ZMTP version, major and minor.
    pub version: (u8, u8),
    /// Name of the mechanism that the peer insists on.
    pub mechanism: String,
    /// Whether the peer sees itself as the server of the mechanism.
    pub as_server: bool,
}

impl Greeting {
    /// Our own greeting.
    pub fn ours(mechanism: Mechanism) -> Self {
        Self { version: (3, 1), mechanism: mechanism.name().into(), as_server: false }
    }

    /// The bytes to send.
    pub fn encode(&self) -> [u8; GREETING_LEN] {
        let mut bytes = [0; GREETING_LEN];
        bytes[0] = 0xFF;
        bytes[9] = 0x7F;
        (bytes[10], bytes[11]) = self.version;
        let name = self.mechanism.as_bytes();
        let len = name.len().min(MECHANISM.len());
        bytes[MECHANISM][..len].copy_from_slice(&name[..len]);
        bytes[32] = self.as_server.into();
        bytes
    }

    /// Takes a greeting from `src`; `None` while it is incomplete. What cannot become one fails with the first telling byte.
    pub fn decode(src: &mut BytesMut) -> Result<Option<Self>, ProtocolError> {
        let signed = src.first().is_none_or(|byte| *byte == 0xFF) && src.get(9).is_none_or(|byte| byte & 1 == 1);
        if !signed {
            return Err(ProtocolError::NotZmtp { first: Bytes::copy_from_slice(&src[..src.len().min(GREETING_LEN)]) });
        }
        if let Some(major) = src.get(SIGNATURE_LEN)
            && *major < 3
        {
            // Before version 3 this byte was a revision number: 0 for ZMTP 1.0, 1 for 2.0.
            return Err(ProtocolError::OldVersion(major + 1));
        }
        if src.len() < GREETING_LEN {
            return Ok(None);
        }
        let name = src[MECHANISM].split(|byte| *byte == 0).next().unwrap_or_default();
        let greeting = Self {
            version: (src[10], src[11]),
            mechanism: name.escape_ascii().to_string(),
            as_server: src[32] & 1 == 1,
        };
        src.advance(GREETING_LEN);
        Ok(Some(greeting))
    }
}
