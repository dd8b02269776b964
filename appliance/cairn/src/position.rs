//! A place in a change index as the command line writes it: `SEQ[.INO]`, or `-1` for the last.

use cairn_control::proto::IndexPosition;
use std::str::FromStr;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    At { seq: u64, ino: Option<u64> },
    Last,
}

impl Position {
    /// As the beginning of a range: a bare seq begins before all of its inodes.
    pub fn first(self) -> IndexPosition {
        self.bound(0)
    }

    /// As the end of a range: a bare seq includes all of its inodes.
    pub fn last(self) -> IndexPosition {
        self.bound(u64::MAX)
    }

    /// As a place to go on behind: a bare seq is behind all of its inodes.
    pub fn since(text: &str) -> Result<IndexPosition, String> {
        match text.parse() {
            Ok(Position::Last) => {
                Err("nothing lies behind the last: SEQ or SEQ.INO, please".into())
            }
            Ok(position @ Position::At { .. }) => Ok(position.last()),
            Err::<_, String>(_) => Err("a place to go on behind is SEQ or SEQ.INO, from 0".into()),
        }
    }

    fn bound(self, ino_unsaid: u64) -> IndexPosition {
        match self {
            Position::At { seq, ino } => IndexPosition { seq, ino: ino.unwrap_or(ino_unsaid) },
            Position::Last => IndexPosition { seq: u64::MAX, ino: u64::MAX },
        }
    }
}

impl FromStr for Position {
    type Err = String;

    fn from_str(text: &str) -> Result<Position, String> {
        if text == "-1" {
            return Ok(Position::Last);
        }
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse().ok()).flatten()
        };
        let parsed = match text.split_once('.') {
            None => number(text).map(|seq| Position::At { seq, ino: None }),
            Some((seq, ino)) => {
                number(seq).zip(number(ino)).map(|(seq, ino)| Position::At { seq, ino: Some(ino) })
            }
        };
        parsed.ok_or_else(|| "a position is SEQ, SEQ.INO, or -1 for the last".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(text: &str) -> Option<[(u64, u64); 2]> {
        let position: Position = text.parse().ok()?;
        Some([position.first(), position.last()].map(|at| (at.seq, at.ino)))
    }

    #[test]
    fn a_bare_seq_means_all_of_its_inodes() {
        assert_eq!(bounds("7"), Some([(7, 0), (7, u64::MAX)]));
        assert_eq!(bounds("7.12"), Some([(7, 12), (7, 12)]));
        assert_eq!(bounds("-1"), Some([(u64::MAX, u64::MAX); 2]));
    }

    #[test]
    fn what_to_go_on_behind_is_a_place() {
        let since = |text| Position::since(text).ok().map(|at| (at.seq, at.ino));
        assert_eq!(since("7"), Some((7, u64::MAX)));
        assert_eq!(since("7.12"), Some((7, 12)));
        assert_eq!(since("-1"), None);
        assert_eq!(since("7."), None);
    }

    #[test]
    fn anything_else_is_no_position() {
        for bad in ["", ".", "7.", ".7", "-2", "+7", "7.1.1", "seven", "18446744073709551616"] {
            assert_eq!(bounds(bad), None, "{bad:?}");
        }
    }
}
