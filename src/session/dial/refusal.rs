//! The body of an answer other than 101, as far as it comes.
//!
//! A file of its own because the three framings of HTTP/1.1 (RFC 9112, section 6.3) matter nowhere
//! else. Venues say in this body why they refuse: for how long an address is banned, which key is
//! wrong.
//!
//! Invariants: reading ends at 64 KiB, at the deadline, or with the body, whichever comes first; no
//! fault of the body hides the status; a server that keeps the connection open without saying how
//! long its body is costs [`GRACE`] and no more.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

use super::upgrade::{Head, has_token, tokens};

/// Bytes of a body that are kept.
const MAX_BODY: usize = 64 * 1024;

/// How long to wait for a body that was not announced.
const GRACE: Duration = Duration::from_millis(250);

/// Bytes that a chunk's size and extensions may take.
const MAX_CHUNK_LINE: usize = 1024;

/// Reads the body that follows `head`, of which `raw` has come already, for at most `remaining`.
pub(super) async fn read_body<S>(
    stream: &mut S,
    head: &Head,
    mut raw: Vec<u8>,
    remaining: Duration,
) -> Bytes
where
    S: AsyncRead + Unpin,
{
    let mut body = Body {
        framing: Framing::of(head),
        bytes: Vec::new(),
    };
    let limit = match body.framing {
        Framing::Unannounced => remaining.min(GRACE),
        Framing::Length(_) | Framing::Chunked(_) | Framing::UntilClose => remaining,
    };
    let read = async {
        while !body.take(&mut raw) {
            raw.reserve(4096);
            match stream.read_buf(&mut raw).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
    };
    // What has come by then is the body.
    let _ = timeout(limit, read).await;
    Bytes::from(body.bytes)
}

/// Where a body ends.
#[derive(Debug, PartialEq, Eq)]
enum Framing {
    /// After so many more bytes.
    Length(usize),
    Chunked(Chunk),
    UntilClose,
    /// The server says nothing and keeps the connection, so there is probably none.
    Unannounced,
}

/// What comes next in a chunked body.
#[derive(Debug, PartialEq, Eq)]
enum Chunk {
    Size,
    /// So many more bytes of a chunk.
    Data(usize),
    /// The line end behind a chunk.
    End,
}

impl Framing {
    fn of(head: &Head) -> Self {
        let headers = &head.headers;
        if matches!(
            head.status,
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        ) {
            return Self::Length(0);
        }
        if has_token(headers, TRANSFER_ENCODING, "chunked") {
            return Self::Chunked(Chunk::Size);
        }
        let mut lengths = tokens(headers, CONTENT_LENGTH).map(str::parse);
        if let Some(Ok(length)) = lengths.next()
            && lengths.all(|other| other == Ok(length))
        {
            return Self::Length(length);
        }
        let kept = if head.version == 0 {
            has_token(headers, CONNECTION, "keep-alive")
        } else {
            !has_token(headers, CONNECTION, "close")
        };
        if kept {
            Self::Unannounced
        } else {
            Self::UntilClose
        }
    }
}

struct Body {
    framing: Framing,
    /// At most [`MAX_BODY`].
    bytes: Vec<u8>,
}

impl Body {
    /// Moves what belongs to the body out of `raw`; true once nothing more is wanted.
    fn take(&mut self, raw: &mut Vec<u8>) -> bool {
        loop {
            match &mut self.framing {
                Framing::UntilClose | Framing::Unannounced => {
                    move_bytes(raw, &mut self.bytes, usize::MAX);
                    return self.bytes.len() == MAX_BODY;
                }
                Framing::Length(left) => {
                    *left -= move_bytes(raw, &mut self.bytes, *left);
                    return *left == 0 || self.bytes.len() == MAX_BODY;
                }
                Framing::Chunked(chunk) => match chunk {
                    Chunk::Size => match httparse::parse_chunk_size(raw) {
                        Ok(httparse::Status::Complete((_, 0))) | Err(_) => return true,
                        Ok(httparse::Status::Complete((start, size))) => {
                            raw.drain(..start);
                            *chunk = Chunk::Data(usize::try_from(size).unwrap_or(usize::MAX));
                        }
                        Ok(httparse::Status::Partial) => return raw.len() > MAX_CHUNK_LINE,
                    },
                    Chunk::Data(left) => {
                        *left -= move_bytes(raw, &mut self.bytes, *left);
                        if self.bytes.len() == MAX_BODY {
                            return true;
                        }
                        if *left > 0 {
                            return false;
                        }
                        *chunk = Chunk::End;
                    }
                    Chunk::End => match raw.get(..2) {
                        Some(b"\r\n") => {
                            raw.drain(..2);
                            *chunk = Chunk::Size;
                        }
                        Some(_) => return true,
                        None => return false,
                    },
                },
            }
        }
    }
}

/// Moves up to `most` bytes, and no more than the body has room for; returns how many.
fn move_bytes(from: &mut Vec<u8>, to: &mut Vec<u8>, most: usize) -> usize {
    let count = from.len().min(most).min(MAX_BODY - to.len());
    to.extend(from.drain(..count));
    count
}
