//! Lines of texts, written quickly: nearly everything that a market says is a text on which no rule falls.
//!
//! Apart from the format and from redaction because it does both at once, in one pass: each quote is met anyway, since it
//! has to be escaped, and behind each second one stands a colon or not. Whatever takes more than that is left to them.
//!
//! Invariants: what is written is byte for byte what [`Entry`](super::Entry) would write of the same text, and
//! redaction would have left that text alone; where there is a backslash or a name of redaction's, nothing is written.

use std::time::SystemTime;

use super::lines::Lines;
use super::{Direction, Mark, Redaction, line, timestamp};
use crate::protocol::json::odd::{WORD, first_odd};

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Scribe {
    /// What stands before the text, and of which moment and direction.
    head: Vec<u8>,
    of: Option<(SystemTime, Direction)>,
}

impl Scribe {
    /// Appends the line of a text, with its end. Whether it could; if not, the text is to be read as a whole.
    #[inline]
    pub(crate) fn text(
        &mut self,
        rules: &Redaction,
        (at, direction): (SystemTime, Direction),
        mark: Option<Mark>,
        text: &[u8],
        lines: &mut Lines,
    ) -> bool {
        if self.of != Some((at, direction)) {
            self.begin(at, direction);
        }
        let head = self.head.len();
        let room = lines.room(head + room_for(text) + LONGEST_END);
        let (before, behind) = room.split_at_mut(head);
        before.copy_from_slice(&self.head);
        let Some(escaped) = escape(text, behind, |name| rules.is_secret(name)) else {
            return false;
        };
        let end = end(mark);
        behind[escaped..escaped + end.len()].copy_from_slice(end);
        lines.fill(head + escaped + end.len());
        true
    }

    #[cold]
    fn begin(&mut self, at: SystemTime, direction: Direction) {
        self.head.clear();
        for part in [
            r#"{"ts":""#,
            &timestamp::format(at),
            r#"","dir":""#,
            line::direction(direction),
            r#"","type":"text","data":""#,
        ] {
            self.head.extend_from_slice(part.as_bytes());
        }
        self.of = Some((at, direction));
    }
}

const LONGEST_END: usize = 32;

fn end(mark: Option<Mark>) -> &'static [u8] {
    match mark {
        None => b"\"}\n",
        Some(Mark::Opening) => b"\",\"mark\":\"opening\"}\n",
        Some(Mark::Authentication) => b"\",\"mark\":\"authentication\"}\n",
        Some(Mark::Restore) => b"\",\"mark\":\"restore\"}\n",
        Some(Mark::Heartbeat) => b"\",\"mark\":\"heartbeat\"}\n",
    }
}

/// Room that [`escape`] needs for a text.
fn room_for(text: &[u8]) -> usize {
    2 * text.len() + WORD
}

/// Writes a text as it stands within quotes (RFC 8259, section 7); how many bytes that are. `None` if it has a backslash,
/// a rare control character, or a member whose name is `secret`.
fn escape(text: &[u8], out: &mut [u8], secret: impl Fn(&[u8]) -> bool) -> Option<usize> {
    let (mut at, mut end) = (0, 0);
    // Where the string began that is open.
    let mut open = None;
    while at < text.len() {
        let word = word(text, at);
        out.get_mut(end..end + WORD)?.copy_from_slice(&word);
        let Some(plain) = first_odd(word) else {
            at += WORD;
            end += WORD;
            continue;
        };
        at += plain;
        end += plain;
        let letter = match text.get(at)? {
            b'"' => {
                open = match open {
                    None => Some(at + 1),
                    Some(from) if is_name(text, at) && secret(text.get(from..at)?) => return None,
                    Some(_) => None,
                };
                b'"'
            }
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x08 => b'b',
            0x0c => b'f',
            _ => return None,
        };
        out.get_mut(end..end + 2)?.copy_from_slice(&[b'\\', letter]);
        at += 1;
        end += 2;
    }
    // The last word may have been longer than what was left.
    Some(end - (at - text.len()))
}

/// The next bytes, with spaces behind the last.
#[inline]
fn word(text: &[u8], at: usize) -> [u8; WORD] {
    let rest = text.get(at..).unwrap_or_default();
    match rest.first_chunk() {
        Some(word) => *word,
        None => {
            let mut word = [b' '; WORD];
            word[..rest.len()].copy_from_slice(rest);
            word
        }
    }
}

/// Whether what the quote here closes is the name of a member.
#[inline]
fn is_name(text: &[u8], quote: usize) -> bool {
    match text.get(quote + 1) {
        Some(b':') => true,
        Some(next) if next.is_ascii_whitespace() => {
            let rest = text.get(quote + 1..).unwrap_or_default();
            rest.trim_ascii_start().first() == Some(&b':')
        }
        Some(_) | None => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::*;
    use crate::frame::Frame;
    use crate::protocol::recording::{Confidence, DEFAULT_MEMBERS, Entry};

    /// Rules without a member, so that nothing but the characters decides.
    fn none() -> Redaction {
        Redaction::new([""; 0], [""; 0])
    }

    fn rules() -> Redaction {
        Redaction::new(DEFAULT_MEMBERS, [""; 0])
    }

    fn written(rules: &Redaction, text: &str, mark: Option<Mark>) -> Option<String> {
        let mut lines = Lines::default();
        let when = (UNIX_EPOCH + Duration::from_micros(17), Direction::In);
        let could = Scribe::default().text(rules, when, mark, text.as_bytes(), &mut lines);
        assert_eq!(could, !lines.is_empty());
        let line = String::from_utf8(lines.as_bytes().to_vec()).unwrap();
        could.then_some(line)
    }

    fn expected(text: &str, mark: Option<Mark>) -> String {
        let at = UNIX_EPOCH + Duration::from_micros(17);
        let entry = Entry::new(at, Direction::In, Frame::text(text)).marked(mark);
        entry.format() + "\n"
    }

    /// Texts with much of what matters here in them.
    fn texts() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            4 => "[\"\\\\:{},\n\t\r\u{8}\u{c}\u{1}\u{7f}é€ a_-]{0,5}",
            2 => "\"[a-z_]{0,12}\" ?:",
            1 => any::<String>(),
            1 => "x{0,40}",
            1 => prop::sample::select(DEFAULT_MEMBERS.to_vec()).prop_map(|name| format!("\"{name}\":")),
        ];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    /// A name of ours as a peer may spell it: case, `_`, `-`, and characters by their number.
    fn spelled() -> impl Strategy<Value = String> {
        let each = prop::collection::vec((0_u8..4, any::<bool>()), 24);
        (prop::sample::select(DEFAULT_MEMBERS.to_vec()), each).prop_map(|(name, how)| {
            let mut spelled = String::new();
            for (letter, (how, dash)) in name.chars().zip(how) {
                match how {
                    0 => spelled.push(letter.to_ascii_uppercase()),
                    1 => spelled += &format!("\\u{:04x}", u32::from(letter)),
                    _ => spelled.push(letter),
                }
                if dash {
                    spelled.push('-');
                }
            }
            spelled
        })
    }

    fn marks() -> impl Strategy<Value = Option<Mark>> {
        let all = [
            Mark::Opening,
            Mark::Authentication,
            Mark::Restore,
            Mark::Heartbeat,
        ];
        prop::option::of(prop::sample::select(all.to_vec()))
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_the_format_says(text in texts(), mark in marks()) {
            let simple = text.chars().all(|c| c >= ' ' && c != '\\' || "\n\r\t\u{8}\u{c}".contains(c));
            let written = written(&none(), &text, mark);
            prop_assert_eq!(written.is_some(), simple);
            if let Some(line) = written {
                prop_assert_eq!(line, expected(&text, mark));
            }
        }

        #[test]
        fn a_text_is_written_at_once_only_if_redaction_leaves_it_alone(text in texts()) {
            let after = rules().apply(Frame::text(text.as_str()), Confidence::Open);
            match written(&rules(), &text, None) {
                Some(line) => {
                    prop_assert_eq!(after.as_text(), Some(text.as_str()));
                    prop_assert_eq!(line, expected(&text, None));
                }
                None => {
                    let plain = written(&none(), &text, None).is_some();
                    prop_assert!(!plain || after.as_text() != Some(text.as_str())
                        || text.contains("null") || text.contains(super::super::REDACTED));
                }
            }
        }

        #[test]
        fn a_member_with_a_telling_name_is_never_written_at_once(
            before in "[ -!#-\\[\\]-~]{0,20}",
            name in spelled(),
            space in "[ \n\t\r]{0,3}",
            value in texts(),
        ) {
            let text = format!("{{\"{before}\":1,\"{name}\"{space}:{value}}}");
            prop_assert_eq!(written(&rules(), &text, None), None);
        }
    }

    #[test]
    fn lines_of_two_moments_and_two_directions_stand_behind_each_other() {
        let (mut scribe, mut lines) = (Scribe::default(), Lines::default());
        let mut all = String::new();
        for (micros, direction) in [
            (1, Direction::In),
            (1, Direction::Out),
            (2, Direction::Out),
            (2, Direction::Out),
        ] {
            let at = UNIX_EPOCH + Duration::from_micros(micros);
            assert!(scribe.text(&rules(), (at, direction), None, b"{}", &mut lines));
            assert!(!scribe.text(&rules(), (at, direction), None, b"\\", &mut lines));
            all += &(Entry::new(at, direction, Frame::text("{}")).format() + "\n");
        }
        assert_eq!(lines.as_bytes(), all.as_bytes());
        lines.clear(100);
        assert!(lines.is_empty());
    }
}
