//! A thread that writes stamped frames into a raw socket at a steady rate.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tokio_tungstenite::tungstenite;

use crate::load::{CHANNEL, frame, tick};
use crate::setting::Setting;

/// Digits of a stamp, and what stands behind them in a tick.
const DIGITS: usize = 20;
const TAIL: usize = r#""}}}"#.len();

/// Writes its ticks into every socket that says a word. It lives as long as the process.
pub struct Pacer {
    /// Where it listens, on the loopback interface.
    pub port: u16,
}

impl Pacer {
    /// `messages` ticks of 200 bytes, `rate` of them a second.
    #[must_use]
    pub fn start(rate: usize, messages: usize, setting: Setting) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let gap = Duration::from_secs(1) / u32::try_from(rate).expect("a rate");
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    setting.pin_other_side();
                    // Whoever was left early hears of it himself.
                    let _ = serve(stream, gap, messages);
                });
            }
        });
        Self { port }
    }
}

fn serve(stream: TcpStream, gap: Duration, messages: usize) -> tungstenite::Result<()> {
    stream.set_nodelay(true)?;
    let Ok(mut socket) = tungstenite::accept(stream) else {
        return Ok(());
    };
    socket.read()?;
    let stream = socket.get_mut();
    let tick = frame(tick(CHANNEL, 200).as_bytes());
    let mut block = Vec::new();
    let mut due = Instant::now();
    let mut left = messages;
    while left > 0 {
        while Instant::now() < due {
            std::hint::spin_loop();
        }
        // Whatever is due by now goes in one write; after a delay that is more than one.
        block.clear();
        let stamp = format!("{:0DIGITS$}", nanos());
        let now = Instant::now();
        while due <= now && left > 0 {
            block.extend_from_slice(&tick);
            let at = block.len() - TAIL - DIGITS;
            block[at..at + DIGITS].copy_from_slice(stamp.as_bytes());
            due += gap;
            left -= 1;
        }
        stream.write_all(&block)?;
    }
    // Until the other side says good-bye or is gone; what it says is not answered, the next run is waiting.
    let _ = stream.read(&mut [0; 1024])?;
    Ok(())
}

/// Microseconds since this tick was written.
#[must_use]
pub fn age(tick: &[u8]) -> f64 {
    let now = nanos();
    let end = tick.len() - TAIL;
    let written = tick[end - DIGITS..end]
        .iter()
        .fold(0_u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    now.saturating_sub(written) as f64 / 1000.0
}

/// Since an instant that all threads of this process agree on.
fn nanos() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
}
