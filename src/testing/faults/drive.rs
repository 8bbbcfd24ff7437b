//! The task of one connection to a venue with faults: plays its steps.
//!
//! A file of its own because it alone owns the connection's bytes.
//!
//! Invariants: whatever it waits for, it reads meanwhile, unless the step says otherwise; the end is in the log,
//! in whatever way it came; where the script closes the port, it is closed before the client can know of the end.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::clock;
use super::log::FaultEntryKind;
use super::script::{Cut, Denial, Direction, Ending, FaultStep, Slow};
use super::venue::{Plan, Venue, denial, forged};
use crate::testing::driver::close_frame;
use crate::testing::handshake::{Handshake, finish, shake};
use crate::testing::stream::{Pipe, ServerStream};

/// How long a client may take to read what is written to it.
const WRITE_LIMIT: Duration = Duration::from_secs(60);

/// How a connection's steps are over.
enum End {
    HangUp,
    Reset,
    Close(Option<u16>, String),
    /// Nothing passes any more.
    Silent,
    /// The client has gone, or broke the rules.
    Gone,
}

/// What is done about what comes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Serve,
    Acked,
    Delayed,
    Mute,
}

/// Serves connection `id` from its first byte to its last.
pub(super) async fn serve(venue: Arc<Venue>, id: u64, pipe: Pipe) {
    venue.log.write(id, FaultEntryKind::Accepted);
    let plan = venue.plan(id);
    let mut ended = Ended {
        venue: Arc::clone(&venue),
        id,
        open: true,
        played: id > venue.planned() as u64,
    };
    let Some(mut line) = open(&venue, id, pipe, &plan).await else {
        venue.shut_behind(&plan).await;
        return;
    };
    let opening = plan
        .steps
        .iter()
        .take_while(|step| step.is_before_upgrade());
    let steps = &plan.steps[opening.count()..];
    let end = match line.play(steps).await {
        Ok(()) => {
            ended.play();
            line.go_on(Mode::Serve, None, |_| false).await.err()
        }
        Err(end) => Some(end),
    };
    venue.shut_behind(&plan).await;
    // From here on nothing more is sent; so the log says it before the client can know.
    ended.end();
    match end.unwrap_or(End::Gone) {
        End::HangUp => finish(line.socket.into_inner()).await,
        End::Reset => line.socket.into_inner().reset(),
        End::Close(code, reason) => line.close(code, &reason).await,
        End::Silent => line.socket.get_ref().pipe().silence().await,
        End::Gone => {}
    }
}

/// Writes the end into the log, also when the task is dropped.
struct Ended {
    venue: Arc<Venue>,
    id: u64,
    open: bool,
    played: bool,
}

impl Ended {
    fn play(&mut self) {
        if !std::mem::replace(&mut self.played, true) {
            self.venue.played(self.id);
        }
    }

    fn end(&mut self) {
        if std::mem::replace(&mut self.open, false) {
            self.venue.log.write(self.id, FaultEntryKind::Ended);
        }
        self.play();
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.end();
    }
}

/// What comes before the first frame; `None` if that was all.
async fn open(venue: &Arc<Venue>, id: u64, mut pipe: Pipe, plan: &Plan) -> Option<Line> {
    let mut handshake = match venue.ban(Instant::now()) {
        Some(left) => {
            let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
            Handshake::refuse(429, &[("retry-after", &seconds.to_string())], "")
        }
        None => Handshake::Accept,
    };
    let mut how = Ending::default();
    let opening = plan
        .steps
        .iter()
        .take_while(|step| step.is_before_upgrade());
    let opening: Vec<&FaultStep> = opening.collect();
    for step in &opening {
        match step {
            FaultStep::Slow(slow) => slow_down(&mut pipe, slow),
            FaultStep::Cut(cut) => how = arm(&mut pipe, cut),
            _ => {}
        }
    }
    // What comes last is what is waited for.
    for step in opening.into_iter().rev() {
        match step {
            FaultStep::HangUpBeforeUpgrade => handshake = Handshake::HangUp,
            FaultStep::ResetBeforeUpgrade => handshake = Handshake::Reset,
            FaultStep::StallUpgrade(time) => {
                handshake = Handshake::Delay {
                    delay: *time,
                    then: Box::new(handshake),
                };
            }
            FaultStep::Http(answer) => {
                let headers = answer.headers.clone().into_iter().collect();
                handshake = Handshake::Refuse {
                    status: answer.status,
                    headers,
                    body: answer.body.clone(),
                };
            }
            FaultStep::Garbage(text) => handshake = Handshake::Garbage(text.clone().into()),
            FaultStep::WrongAccept => handshake = Handshake::WrongAccept,
            _ => {}
        }
    }
    let opened = shake(pipe, None, handshake, None, |_| ()).await;
    let (socket, _) = opened.ok().flatten()?;
    venue.log.write(id, FaultEntryKind::Opened);
    venue.skip();
    Some(Line {
        venue: Arc::clone(venue),
        id,
        socket,
        how,
        channels: Vec::new(),
        next: Instant::now() + venue.script.every,
        denial: None,
        later: Vec::new(),
    })
}

fn slow_down(pipe: &mut Pipe, slow: &Slow) {
    let shape = match slow.direction {
        Direction::ToClient => &mut pipe.outbound,
        Direction::FromClient => &mut pipe.inbound,
    };
    shape.pace(slow.bytes, slow.every);
}

fn arm(pipe: &mut Pipe, cut: &Cut) -> Ending {
    let shape = match cut.direction {
        Direction::ToClient => &mut pipe.outbound,
        Direction::FromClient => &mut pipe.inbound,
    };
    shape.cut_after(cut.after);
    cut.how
}

/// An open connection.
struct Line {
    venue: Arc<Venue>,
    id: u64,
    socket: WebSocketStream<ServerStream>,
    /// What follows the cut, if one comes.
    how: Ending,
    channels: Vec<String>,
    /// When the channels are sent next.
    next: Instant,
    /// How requests are answered, if not as they should be.
    denial: Option<Denial>,
    /// Answers that are held back; an order's with its number.
    later: Vec<(String, Option<u64>)>,
}

impl Line {
    async fn play(&mut self, steps: &[FaultStep]) -> Result<(), End> {
        for step in steps {
            self.step(step).await?;
        }
        Ok(())
    }

    async fn step(&mut self, step: &FaultStep) -> Result<(), End> {
        match step {
            FaultStep::Serve(time) => self.go_on(Mode::Serve, Some(*time), |_| false).await?,
            FaultStep::Await(part) => {
                let found = |text: &str| text.contains(part.as_str());
                self.go_on(Mode::Serve, None, found).await?;
            }
            FaultStep::Mute(time) => self.go_on(Mode::Mute, Some(*time), |_| false).await?,
            FaultStep::AckedMute(time) => self.go_on(Mode::Acked, Some(*time), |_| false).await?,
            FaultStep::Delay(time) => {
                self.go_on(Mode::Delayed, Some(*time), |_| false).await?;
                for (answer, order) in std::mem::take(&mut self.later) {
                    self.answer(answer, order).await?;
                }
            }
            FaultStep::Silence(time) => {
                let pipe = self.socket.get_ref().pipe();
                tokio::select! {
                    biased;
                    () = pipe.silence() => return Err(End::Gone),
                    () = sleep(*time) => {}
                }
            }
            FaultStep::Deny(denial) => self.denial = Some(denial.clone()),
            FaultStep::Allow => self.denial = None,
            FaultStep::Send(text) => {
                self.forge(text.as_bytes());
                self.send(Message::text(text.clone())).await?;
            }
            FaultStep::Raw(bytes) => {
                self.forge(&bytes.0);
                self.raw(&bytes.0).await?;
            }
            FaultStep::BadFrame(frame) => self.raw(&frame.bytes()).await?,
            FaultStep::Ping(payload) => {
                self.send(Message::Ping(payload.clone().into())).await?;
            }
            FaultStep::PingFlood(pings) => {
                for number in 0..*pings {
                    self.send(Message::Ping(number.to_string().into())).await?;
                }
            }
            FaultStep::Flood(flood) => {
                for _ in 0..flood.messages {
                    self.publish(flood.pad).await?;
                }
            }
            FaultStep::Slow(slow) => slow_down(self.socket.get_mut().pipe_mut(), slow),
            FaultStep::Cut(cut) => {
                let pipe = self.socket.get_mut().pipe_mut();
                self.how = arm(pipe, cut);
                self.uncut()?;
            }
            FaultStep::Close(close) => return Err(End::Close(close.code, close.reason.clone())),
            FaultStep::HangUp => return Err(End::HangUp),
            FaultStep::Reset => return Err(End::Reset),
            FaultStep::ClockJump(time) => clock::jump(*time).await,
            FaultStep::Suspend(time) => {
                clock::jump(*time).await;
                return Err(End::Silent);
            }
            FaultStep::Repeat(repeat) => {
                for _ in 0..repeat.times {
                    Box::pin(self.play(&repeat.steps)).await?;
                }
            }
            // Over, or played, before the connection opened.
            FaultStep::Refuse(_)
            | FaultStep::HangUpBeforeUpgrade
            | FaultStep::ResetBeforeUpgrade
            | FaultStep::StallUpgrade(_)
            | FaultStep::Http(_)
            | FaultStep::Garbage(_)
            | FaultStep::WrongAccept => {}
        }
        Ok(())
    }

    /// Reads, and does what the mode says, for so long or until `enough` says so of a message.
    async fn go_on(
        &mut self,
        mode: Mode,
        time: Option<Duration>,
        enough: impl Fn(&str) -> bool,
    ) -> Result<(), End> {
        let deadline = time.map(|time| Instant::now() + time);
        self.next = self.next.max(Instant::now());
        loop {
            let publishing = mode == Mode::Serve && !self.channels.is_empty();
            tokio::select! {
                // So that the same script takes the same course. The deadline comes first, since on a slow line there is
                // always something else to do; it is looked at only where there is one.
                biased;
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    return Ok(());
                }
                message = self.socket.next() => {
                    let text = match message {
                        Some(Ok(Message::Text(text))) => text,
                        Some(Ok(_)) => {
                            self.uncut()?;
                            continue;
                        }
                        Some(Err(error)) => return Err(self.gone(&error)),
                        None => return Err(End::Gone),
                    };
                    self.receive(&text, mode).await?;
                    if enough(&text) {
                        return Ok(());
                    }
                }
                () = sleep_until(self.next), if publishing => {
                    self.next = Instant::now() + self.venue.script.every;
                    self.publish(0).await?;
                }
            }
        }
    }

    async fn receive(&mut self, text: &str, mode: Mode) -> Result<(), End> {
        let denied = self.denial.as_ref().filter(|denial| denial.meets(text));
        if let (Some(Denial { code, message, .. }), true) = (denied, mode != Mode::Mute) {
            let answer = denial(text, *code, message);
            let received = text.to_owned();
            self.venue
                .log
                .write(self.id, FaultEntryKind::Received { text: received });
            return match answer {
                Some(answer) => self.answer(answer, None).await,
                None => Ok(()),
            };
        }
        let judgement = self.venue.judge(self.id, text, Instant::now());
        if let Some(code) = judgement.close {
            return Err(End::Close(Some(code), "too many requests".to_owned()));
        }
        self.channels
            .retain(|channel| !judgement.unsubscribed.contains(channel));
        for channel in judgement.subscribed {
            if !self.channels.contains(&channel) {
                self.channels.push(channel);
            }
        }
        match (mode, judgement.answer) {
            (_, None) | (Mode::Mute, _) => Ok(()),
            (Mode::Delayed, Some(answer)) => {
                self.later.push(answer);
                Ok(())
            }
            (Mode::Serve | Mode::Acked, Some((answer, order))) => self.answer(answer, order).await,
        }
    }

    async fn answer(&mut self, answer: String, order: Option<u64>) -> Result<(), End> {
        let (sent, whole) = self.try_send(Message::text(answer)).await;
        if let Some(order) = order {
            self.venue
                .log
                .write(self.id, FaultEntryKind::Answered { order, whole });
        }
        sent
    }

    /// One message for each subscribed channel.
    async fn publish(&mut self, pad: usize) -> Result<(), End> {
        for channel in self.channels.clone() {
            let (number, text) = self.venue.message(&channel, pad);
            let (sent, whole) = self.try_send(Message::text(text)).await;
            self.venue.log.write(
                self.id,
                FaultEntryKind::Sent {
                    channel,
                    number,
                    whole,
                },
            );
            sent?;
        }
        Ok(())
    }

    /// Writes down what the script says in a channel's name.
    fn forge(&self, bytes: &[u8]) {
        if let Some((channel, number)) = forged(bytes) {
            let forged = FaultEntryKind::Forged { channel, number };
            self.venue.log.write(self.id, forged);
        }
    }

    async fn send(&mut self, message: Message) -> Result<(), End> {
        self.try_send(message).await.0
    }

    /// Sends, and says whether every byte passed the line.
    async fn try_send(&mut self, message: Message) -> (Result<(), End>, bool) {
        match timeout(WRITE_LIMIT, self.socket.send(message)).await {
            Ok(Ok(())) => (self.uncut(), true),
            Ok(Err(error)) => (Err(self.gone(&error)), false),
            Err(_) => (Err(End::Gone), false),
        }
    }

    async fn raw(&mut self, bytes: &[u8]) -> Result<(), End> {
        let stream = self.socket.get_mut();
        let write = async {
            stream.write_all(bytes).await?;
            stream.flush().await
        };
        match timeout(WRITE_LIMIT, write).await {
            Ok(Ok(())) => self.uncut(),
            Ok(Err(_)) | Err(_) => Err(self.uncut().err().unwrap_or(End::Gone)),
        }
    }

    /// An error is the client's going away, unless our own cut was its cause.
    fn gone(&self, _error: &Error) -> End {
        self.uncut().err().unwrap_or(End::Gone)
    }

    fn uncut(&self) -> Result<(), End> {
        if !self.socket.get_ref().pipe().is_cut() {
            return Ok(());
        }
        Err(match self.how {
            Ending::Reset => End::Reset,
            Ending::HangUp => End::HangUp,
            Ending::Silence => End::Silent,
        })
    }

    /// The closing handshake from our side (RFC 6455, section 7.1.2).
    async fn close(mut self, code: Option<u16>, reason: &str) {
        const ANSWER_LIMIT: Duration = Duration::from_secs(2);
        match code {
            Some(code) => close_frame(&mut self.socket, code, reason).await,
            None => drop(timeout(WRITE_LIMIT, self.socket.close(None)).await),
        }
        let answered = async { while let Some(Ok(_)) = self.socket.next().await {} };
        let _ = timeout(ANSWER_LIMIT, answered).await;
        finish(self.socket.into_inner()).await;
    }
}
