//! A message that comes in parts (RFC 6455, section 5.4).
//!
//! Invariants: it never grows beyond the limit; text is known to be UTF-8 as far as it has come, so that a fault
//! ends the connection where it stands and not megabytes later.

use super::FramingError;
use crate::frame::Frame;

/// The parts so far.
#[derive(Debug)]
pub(super) struct Incomplete {
    bytes: Vec<u8>,
    /// For text, how many of the bytes are known to be UTF-8.
    valid: Option<usize>,
}

impl Incomplete {
    pub(super) fn new(is_text: bool) -> Self {
        Self {
            bytes: Vec::new(),
            valid: is_text.then_some(0),
        }
    }

    /// Appends a part.
    pub(super) fn extend(mut self, part: &[u8], limit: usize) -> Result<Self, FramingError> {
        let size = self.bytes.len().saturating_add(part.len());
        if size > limit {
            return Err(FramingError::TooLong {
                size: size as u64,
                limit,
            });
        }
        self.bytes.extend_from_slice(part);
        if let Some(valid) = &mut self.valid {
            match std::str::from_utf8(&self.bytes[*valid..]) {
                Ok(_) => *valid = self.bytes.len(),
                // A character that the next part completes.
                Err(error) if error.error_len().is_none() => *valid += error.valid_up_to(),
                Err(_) => return Err(FramingError::NotUtf8),
            }
        }
        Ok(self)
    }

    /// The message, after its last part.
    pub(super) fn complete(self) -> Result<Frame, FramingError> {
        match self.valid {
            None => Ok(Frame::Binary(self.bytes.into())),
            Some(_) => {
                let text = String::from_utf8(self.bytes).map_err(|_| FramingError::NotUtf8)?;
                Ok(Frame::text(text))
            }
        }
    }
}
