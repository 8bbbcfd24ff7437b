//! The frames that a sender writes, made before anything is measured.

/// Ready-made frames of one length, some hundred behind each other.
pub struct Load {
    pub(crate) block: Vec<u8>,
    pub(crate) frame: usize,
    pub(crate) messages: usize,
    /// What the sender answers to a request before it begins.
    pub(crate) answer: &'static str,
}

/// The channel of a load with a single one.
pub const CHANNEL: &str = "ticker.BTC-PERPETUAL.100ms";

impl Load {
    /// `messages` ticks of exactly `size` bytes on one channel.
    #[must_use]
    pub fn ticks(size: usize, messages: usize) -> Self {
        Self::of(&[tick(CHANNEL, size)], messages)
    }

    /// `messages` ticks of exactly `size` bytes, on `channels` channels in turn.
    #[must_use]
    pub fn channels(channels: usize, size: usize, messages: usize) -> Self {
        let texts: Vec<String> = (0..channels)
            .map(|index| tick(&channel(index), size))
            .collect();
        Self::of(&texts, messages)
    }

    /// `messages` notifications of exactly `size` bytes as JSON-RPC subscription libraries want them: `method`,
    /// and the id that the answer to the subscription gave.
    #[must_use]
    pub fn notifications(method: &str, size: usize, messages: usize) -> Self {
        let id = SUBSCRIPTION.trim_matches('"');
        let head = format!(
            r#"{{"jsonrpc":"2.0","method":"{method}","params":{{"subscription":"{id}","result":{{"mark_price":50123.5,"best_bid_price":50123.0,"pad":""#
        );
        Self::of(&[padded(&head, size)], messages)
    }

    fn of(texts: &[String], messages: usize) -> Self {
        let frames: Vec<Vec<u8>> = texts.iter().map(|text| frame(text.as_bytes())).collect();
        let length = frames[0].len();
        // Whole turns through the channels, about 128 KiB.
        let turns = (128 * 1024 / (length * frames.len())).max(1);
        let block = frames.concat().repeat(turns);
        Self {
            block,
            frame: length,
            messages,
            answer: SUBSCRIPTION,
        }
    }
}

const SUBSCRIPTION: &str = r#""0xcd0c3e8af590364c09d0fa6a1210faf5""#;

/// The name of one of many channels; all are of one length.
#[must_use]
pub fn channel(index: usize) -> String {
    format!("ticker.{index:04}-PERPETUAL.100ms")
}

pub(crate) fn tick(channel: &str, size: usize) -> String {
    let head = format!(
        r#"{{"jsonrpc":"2.0","method":"subscription","params":{{"channel":"{channel}","data":{{"mark_price":50123.5,"best_bid_price":50123.0,"pad":""#
    );
    padded(&head, size)
}

fn padded(head: &str, size: usize) -> String {
    let tail = r#""}}}"#;
    let pad = "x".repeat(size.saturating_sub(head.len() + tail.len()));
    format!("{head}{pad}{tail}")
}

/// One unmasked text frame (RFC 6455, section 5.2).
#[must_use]
pub fn frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x81];
    push_length(&mut frame, payload.len());
    frame.extend_from_slice(payload);
    frame
}

pub(crate) fn push_length(frame: &mut Vec<u8>, length: usize) {
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ ..126), _) => frame.push(short),
        (_, Ok(medium)) => {
            frame.push(126);
            frame.extend_from_slice(&medium.to_be_bytes());
        }
        (_, Err(_)) => {
            frame.push(127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}
