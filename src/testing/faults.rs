//! Faults as data: scripts that say what a venue does wrong, a venue that plays them, and a judge.
//!
//! A script is JSON, so that the fault that once broke a program is kept beside the test that shows it mended.
//! [`run`] puts a session of ours through one and holds what it said against what the venue did;
//! [`FaultServer`] plays one to any client. The same script runs in memory under paused time, where an hour takes
//! no time, and over sockets in real time. `docs/faults.md` tells how to keep a fixture.
//!
//! ```json
//! {
//!   "name": "a ban behind a cut",
//!   "connections": [
//!     { "steps": [{ "serve": "200ms" }, { "cut": { "after": 137, "how": "hang_up" } }, { "serve": "1h" }] },
//!     { "steps": [{ "refuse": "2s" }] },
//!     { "steps": [{ "http": { "status": 429, "headers": { "retry-after": "5" } } }] }
//!   ]
//! }
//! ```
//!
//! Connection *n* plays the steps of entry *n*; those behind the last one are served (`"then": "serve"`), fare as it
//! did (`"repeat_last"`) or are refused (`"refuse"`). A connection that no step has ended is served from then on.
//! Times are texts such as `"250ms"`. A name that is no option is refused, with those that are.
//!
//! **What the venue is.** It speaks JSON-RPC 2.0. `subscribe` and `unsubscribe` take `channels`; a subscribed channel
//! gets a numbered message every 10 ms (`"every"`), whose numbers leave a hole wherever a connection begins. `order`
//! with an `order` number is carried out and answered; `find` says whether that number was. Anything else is
//! answered by `"ok"`. What it says about its market is sent by a step, as the text `{"method":"market","params":{"open":false}}`.
//! With `"limit": { "requests": 5, "per": "1s", "punish": { "close": 1008 }, "ban": "10s" }`
//! one request too many closes the connection (or is answered by an error: `{ "error": 10028 }`), and for the ban's
//! time the upgrade is answered by 429 with `Retry-After`.
//!
//! **Steps**, in the order in which they may come:
//!
//! | step | what it does |
//! |---|---|
//! | `{ "refuse": "2s" }` | the port is closed for so long, from the end of the connection before; an entry of its own |
//! | `"hang_up_before_upgrade"`, `"reset_before_upgrade"` | TCP is accepted and ended at once |
//! | `{ "stall_upgrade": "5s" }` | the upgrade is answered only after that |
//! | `{ "http": { "status": 429, "headers": { "retry-after": "2" }, "body": "" } }` | the upgrade is answered by another status |
//! | `{ "garbage": "220 smtp" }`, `"wrong_accept"` | the upgrade is answered by no HTTP, or with a wrong key |
//! | `{ "slow": { "bytes": 1, "every": "10ms", "direction": "to_client" } }` | from here on so many bytes pass at a time; also `"from_client"`; zero bytes end it |
//! | `{ "cut": { "after": 37, "direction": "to_client", "how": "reset" } }` | after so many bytes more the connection ends; also `"hang_up"` and `"silence"`. At the beginning it counts the upgrade's bytes, too |
//! | `{ "serve": "1s" }`, `{ "await": "order" }` | all is well for so long, or until a message contains the text |
//! | `{ "mute": "5s" }` | pings are answered, nothing else is |
//! | `{ "acked_mute": "5s" }` | pings and requests are answered, channels are not sent |
//! | `{ "silence": "30s" }` | nothing is read or written: a half-open connection |
//! | `{ "delay": "2s" }` | requests are answered together behind that time |
//! | `{ "deny": { "code": 10028, "message": "", "about": "" } }`, `"allow"` | from here on requests that contain the text `about` (all, if there is none) are answered by this error, or well again |
//! | `{ "send": "text" }`, `{ "raw": "81 02 68 69" }`, `{ "ping": "x" }` | a text message, bytes below the frames, a ping |
//! | `{ "flood": { "messages": 5000, "pad": 100 } }`, `{ "ping_flood": 500 }` | many at once |
//! | `{ "bad_frame": "reserved_bit1" }` | a frame that RFC 6455 forbids; all kinds stand at [`BadFrame`] |
//! | `{ "clock_jump": "1h" }` | the client's clock jumps while nothing is wrong |
//! | `{ "suspend": "1h" }` | the clock jumps as a laptop's that slept, and the venue has forgotten the connection; ends it |
//! | `{ "close": { "code": 1008, "reason": "" } }` | a close frame and the closing handshake; without a code an empty frame |
//! | `"hang_up"`, `"reset"` | the end of TCP without a close frame |
//! | `{ "repeat": { "times": 3, "steps": [] } }` | these steps again and again |
//!
//! Over sockets a clock cannot be moved; there a jump holds the thread, for two seconds at most, and reaches a client
//! that shares the thread.
//!
//! Invariants: a script is data and nothing else; every wait has a deadline; what is judged is only what was
//! logged.

mod bad_frame;
mod check;
mod clock;
mod course;
mod drive;
mod fates;
mod log;
mod run;
mod script;
mod server;
mod venue;

pub use bad_frame::BadFrame;
pub use check::{Seen, Violation, check_continuity};
pub use fates::{SeenFate, SeenRequest, check_fates};
pub use log::{FaultEntry, FaultEntryKind};
pub use run::{FaultOutcome, FaultPlatform, FaultReport, FaultRun, FaultRunError, run};
pub use script::{
    Afterwards, Close, Cut, Denial, Direction, Ending, FaultConnection, FaultScript,
    FaultScriptError, FaultStep, Flood, Hex, HttpAnswer, Punishment, Repeat, Slow, VenueLimit,
};
pub use server::{FaultServer, FaultWire};
