//! Bugs planted in parsers made for it: the runner finds each, and gives it back from its seed.
//!
//! Each parser is the same record format, sound but for one thing that parsers get wrong: a first byte
//! that may ask for the checksum to be mended, a CRC-32C, a length, and as many bytes.

use cairn_base::hash::crc32c;
use cairn_fuzz::runner::{self, Outcome};
use cairn_fuzz::specimen::Specimen;
use cairn_fuzz::{Target, Verdict};

const MEND: u8 = 1;
const HEAD_BYTES: usize = 6;
const INPUTS: u64 = 20_000;

#[derive(Clone, Copy, PartialEq)]
enum Bug {
    None,
    /// The checksum may be anything when its last byte is zero.
    ChecksumOptional,
    /// One byte too many is allowed, and then read.
    OffByOne,
    /// Two bytes of the body are multiplied as they are.
    Overflow,
    /// Room is made for as many bytes as the body promises, before they are counted.
    Believed,
}

fn parse(input: &[u8], bug: Bug) -> Verdict {
    let Some((mode, rest)) = input.split_first() else { return Verdict::Refused("empty".into()) };
    let mut record = rest.to_vec();
    if record.len() < HEAD_BYTES {
        return Verdict::Refused("short".into());
    }
    if mode & MEND != 0 {
        let crc = crc32c(&record[4..]).to_le_bytes();
        record[..4].copy_from_slice(&crc);
    }
    let crc = crc32c(&record[4..]).to_le_bytes();
    let skipped = bug == Bug::ChecksumOptional && record[3] == 0;
    if record[..4] != crc && !skipped {
        return Verdict::Refused("checksum".into());
    }
    let len = usize::from(u16::from_le_bytes([record[4], record[5]]));
    let allowed = record.len() - HEAD_BYTES + usize::from(bug == Bug::OffByOne);
    if len > allowed {
        return Verdict::Refused("length".into());
    }
    let body = &record[HEAD_BYTES..HEAD_BYTES + len];
    if bug == Bug::Overflow && len == 3 && body[0] == 0xff {
        let product = body[1].checked_mul(body[2]).expect("attempt to multiply with overflow");
        assert!(product < u8::MAX);
    }
    if bug == Bug::Believed && len >= 4 {
        let promised = u32::from_le_bytes([body[0], body[1], body[2], body[3]]) % (1 << 26);
        drop(Vec::<u8>::with_capacity(promised as usize));
    }
    assert_eq!(record[..4], crc, "accepted with a wrong checksum");
    Verdict::Accepted
}

fn target(run: fn(&[u8]) -> Verdict) -> Target {
    Target {
        name: "planted",
        run,
        modes: 2,
        bytes_max: 256,
        heap_max: 64 << 10,
        specimens: Vec::new,
    }
}

fn corpus() -> Vec<Specimen> {
    let record = |mode: u8, body: &[u8]| {
        let rest = [&(body.len() as u16).to_le_bytes()[..], body].concat();
        [&[mode][..], &crc32c(&rest).to_le_bytes(), &rest].concat()
    };
    let named = |name: &str, bytes| Specimen { name: name.to_owned(), bytes };
    vec![named("ok-three", record(0, b"abc")), named("ok-eight", record(MEND, b"\x08\0\0\0abcd"))]
}

fn found(run: fn(&[u8]) -> Verdict) -> Outcome {
    runner::run(&target(run), &corpus(), 7, &mut |done| done < INPUTS, &mut |_| ())
}

/// Found, with this in its words; and the input alone fails again, as does its number under the seed.
fn assert_found(run: fn(&[u8]) -> Verdict, words: &str) {
    let outcome = found(run);
    let failure = outcome.failure.as_ref().unwrap_or_else(|| panic!("{words}: not found"));
    assert!(failure.text.contains(words), "{}", failure.text);
    assert!(runner::tried(&target(run), &failure.input).is_err());
    let seeds: Vec<Vec<u8>> = corpus().into_iter().map(|input| input.bytes).collect();
    assert_eq!(runner::input_of(&target(run), &seeds, 7, outcome.inputs), failure.input);
    let complaint = outcome.complaint().expect("a failure is complained of");
    assert!(complaint.contains("seed 7") && complaint.contains("crash-"), "{complaint}");
}

#[test]
fn a_sound_parser_passes_and_is_looked_at_on_both_sides_of_its_door() {
    let outcome = found(|input| parse(input, Bug::None));
    assert_eq!(outcome.complaint(), None);
    assert_eq!(outcome.inputs, INPUTS);
    assert_eq!(outcome.accepted + outcome.refused_count(), INPUTS);
    for kind in ["checksum", "length", "short"] {
        assert!(outcome.refused.contains_key(kind), "{kind}: {:?}", outcome.refused);
    }
}

#[test]
fn a_length_that_is_off_by_one_behind_a_checksum_is_found() {
    assert_found(|input| parse(input, Bug::OffByOne), "out of range");
}

#[test]
fn an_overflow_of_two_bytes_is_found() {
    assert_found(|input| parse(input, Bug::Overflow), "overflow");
}

#[test]
fn room_made_for_a_promise_is_found_though_nothing_touches_it() {
    assert_found(|input| parse(input, Bug::Believed), "bytes at once");
}

#[test]
fn a_checksum_that_may_be_left_out_is_found() {
    assert_found(|input| parse(input, Bug::ChecksumOptional), "wrong checksum");
}

#[test]
fn a_target_that_accepts_all_or_nothing_fails() {
    let all = found(|_| Verdict::Accepted).complaint().expect("a complaint");
    assert!(all.contains("refused"), "{all}");
    let mut nothing = runner::run(
        &target(|_| Verdict::Refused("no".into())),
        &[],
        7,
        &mut |done| done < 100,
        &mut |_| (),
    );
    assert!(nothing.complaint().expect("a complaint").contains("accepted"));
    nothing.accepted = 1;
    assert_eq!(nothing.complaint(), None);
}

#[test]
fn a_file_of_the_corpus_that_breaks_its_name_fails() {
    let mut inputs = corpus();
    inputs[0].name = "no-three".into();
    let sound = target(|input| parse(input, Bug::None));
    let outcome = runner::run(&sound, &inputs, 7, &mut |_| false, &mut |_| ());
    assert_eq!(outcome.failure.map(|failure| failure.found).as_deref(), Some("no-three"));
}
