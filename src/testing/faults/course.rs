//! The course of a script's steps: whether they can follow each other, and how long they take by themselves.
//!
//! Apart from the script's form because neither is a question of form.
//!
//! Invariants: pure; what is allowed can be played.

use std::time::Duration;

use super::script::{Direction, FaultScriptError, FaultStep, Slow};

/// The channels that a run subscribes to.
const CHANNELS: usize = 2;

/// The longest ping of a flood.
const PING: usize = 12;

/// What a message of a channel has beside its padding, frame and number and all.
const MESSAGE: usize = 128;

/// How long `bytes` take on a line that is as slow as that.
fn crossing(slow: Option<&Slow>, bytes: usize) -> Duration {
    let Some(slow) = slow else {
        return Duration::ZERO;
    };
    let periods = bytes / slow.bytes.max(1);
    slow.every
        .saturating_mul(u32::try_from(periods).unwrap_or(u32::MAX))
}

/// How long these steps take by themselves; a jump of the clock `hold` at most. `slow` is how slow the line to the
/// client has been made.
pub(super) fn span<'s>(
    steps: &'s [FaultStep],
    hold: Duration,
    slow: &mut Option<&'s Slow>,
) -> Duration {
    let each = steps.iter().map(|step| match step {
        FaultStep::Refuse(time)
        | FaultStep::StallUpgrade(time)
        | FaultStep::Serve(time)
        | FaultStep::Mute(time)
        | FaultStep::AckedMute(time)
        | FaultStep::Silence(time)
        | FaultStep::Delay(time) => *time,
        FaultStep::ClockJump(time) | FaultStep::Suspend(time) => (*time).min(hold),
        FaultStep::Http(answer) => answer
            .headers
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case("retry-after"))
            .find_map(|(_, value)| value.trim().parse().ok())
            .map_or(Duration::ZERO, Duration::from_secs),
        FaultStep::Repeat(repeat) => span(&repeat.steps, hold, slow).saturating_mul(repeat.times),
        FaultStep::Slow(made) => {
            if made.direction == Direction::ToClient {
                *slow = (made.bytes > 0).then_some(made);
            }
            Duration::ZERO
        }
        FaultStep::Flood(flood) => {
            let messages = usize::try_from(flood.messages).unwrap_or(usize::MAX);
            let each = CHANNELS.saturating_mul(flood.pad.saturating_add(MESSAGE));
            crossing(*slow, messages.saturating_mul(each))
        }
        FaultStep::PingFlood(pings) => {
            let pings = usize::try_from(*pings).unwrap_or(usize::MAX);
            crossing(*slow, pings.saturating_mul(PING))
        }
        FaultStep::Send(text) => crossing(*slow, text.len()),
        FaultStep::Raw(bytes) => crossing(*slow, bytes.0.len()),
        FaultStep::HangUpBeforeUpgrade
        | FaultStep::ResetBeforeUpgrade
        | FaultStep::Garbage(_)
        | FaultStep::WrongAccept
        | FaultStep::Cut(_)
        | FaultStep::Await(_)
        | FaultStep::Deny(_)
        | FaultStep::Allow
        | FaultStep::Ping(_)
        | FaultStep::BadFrame(_)
        | FaultStep::Close(_)
        | FaultStep::HangUp
        | FaultStep::Reset => Duration::ZERO,
    });
    each.fold(Duration::ZERO, Duration::saturating_add)
}

/// Whether these steps can follow each other; `opening` while the upgrade is still ahead.
pub(super) fn check(
    steps: &[FaultStep],
    list: &str,
    mut opening: bool,
) -> Result<(), FaultScriptError> {
    let mut over = false;
    for (number, step) in steps.iter().enumerate() {
        let place = format!("{list}[{number}]");
        let refuse = |remedy| {
            Err(FaultScriptError::Senseless {
                place: place.clone(),
                remedy,
            })
        };
        if over {
            return refuse("the step before it ends the connection; begin another one");
        }
        if let Some(remedy) = remedy(step, opening, steps.len() == 1) {
            return refuse(remedy);
        }
        if let FaultStep::Repeat(repeat) = step {
            check(&repeat.steps, &format!("{place}.repeat.steps"), false)?;
        }
        over = step.ends();
        opening &= step.is_before_upgrade();
    }
    Ok(())
}

/// What to write instead of this step, if it makes no sense where it stands.
fn remedy(step: &FaultStep, opening: bool, alone: bool) -> Option<&'static str> {
    let before_only =
        step.is_before_upgrade() && !matches!(step, FaultStep::Slow(_) | FaultStep::Cut(_));
    if before_only && !opening {
        return Some("the upgrade is over here; put it at the beginning of a connection");
    }
    if matches!(step, FaultStep::Refuse(_)) && !alone {
        return Some("give refuse a connection of its own");
    }
    match step {
        FaultStep::Http(answer) if !(200..=599).contains(&answer.status) => {
            Some("write a status from 200 to 599")
        }
        FaultStep::Slow(slow) if slow.bytes > 0 && slow.every.is_zero() => {
            Some("write a time above zero")
        }
        FaultStep::Ping(payload) if payload.len() > 125 => Some("write at most 125 bytes"),
        FaultStep::Close(close) if close.code.is_none() && !close.reason.is_empty() => {
            Some("a reason stands behind a code; write one")
        }
        FaultStep::Close(close) if close.reason.len() > 123 => {
            Some("write a reason of at most 123 bytes")
        }
        _ => None,
    }
}
