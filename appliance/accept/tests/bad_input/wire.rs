//! Bytes that are no RPC call, and calls that are no call of ours.

use super::still_serves;
use cairn_accept::raw::{self, LAST, Reply, Verdict, Wire};
use cairn_accept::{Client, Served};
use std::collections::BTreeSet;

/// NFSv3 procedures by number (RFC 1813, 3).
const GETATTR: u32 = 1;
const CREATE: u32 = 8;
const REMOVE: u32 = 12;

fn start(test: &str) -> Option<(Served, Client)> {
    let served = Served::start(test)?;
    let client = served.connect();
    Some((served, client))
}

fn wire(served: &Served) -> Wire {
    Wire::connect(served.address().nfs).expect("connect")
}

fn getattr_of_root(xid: u32, client: &Client) -> Vec<u32> {
    raw::call_as_root(xid, GETATTR, &raw::opaque(&client.root().data))
}

/// The verdict on a call, and that the connection lives on.
#[track_caller]
fn verdict(wire: &mut Wire, words: &[u32]) -> Verdict {
    let reply = wire.ask(words).expect("a reply");
    assert_eq!(reply.xid, words[0], "the reply names the call");
    let null = wire.ask(&raw::call(0xabcd, raw::NFS, 3, 0, &[])).expect("the connection lives");
    assert_eq!((null.xid, null.verdict), (0xabcd, Verdict::Success));
    reply.verdict
}

#[test]
fn a_record_of_2_gib_is_not_waited_for() {
    let Some((mut served, mut client)) = start("record_of_2_gib") else { return };
    let mut wire = wire(&served);
    wire.send_bytes(&raw::bytes_of(&[u32::MAX, 1, 0, 2, raw::NFS, 3, 0])).expect("send");
    wire.wait_until_closed().expect("closed by the server, not left hanging");
    still_serves(&mut served, &mut client);
}

#[test]
fn a_record_of_endless_fragments_is_cut_off() {
    let Some((mut served, mut client)) = start("endless_fragments") else { return };
    let mut wire = wire(&served);
    let mut fragment = raw::bytes_of(&[1 << 16]);
    fragment.resize(4 + (1 << 16), 0);
    // 64 MiB: far above any record that a call could need.
    let closed = (0..1024).any(|_| wire.send_bytes(&fragment).is_err());
    if !closed {
        wire.wait_until_closed().expect("closed by the server after 64 MiB of one record");
    }
    still_serves(&mut served, &mut client);
}

#[test]
fn a_storm_of_empty_fragments_hurts_nobody() {
    let Some((mut served, mut client)) = start("empty_fragments") else { return };
    let mut wire = wire(&served);
    let storm = vec![0; 4 * 50_000];
    // The server may close at any moment, which is an answer too.
    let _ = wire.send_bytes(&storm);
    still_serves(&mut served, &mut client);
}

#[test]
fn a_call_that_stops_short_hurts_nobody() {
    let Some((mut served, mut client)) = start("truncated_calls") else { return };
    let whole = getattr_of_root(7, &client);
    for words in 0..whole.len() {
        let mut wire = wire(&served);
        wire.send(&whole[..words]).expect("send");
        wire.end().expect("shut down");
        match wire.reply() {
            Ok(Reply { verdict, .. }) => {
                assert_ne!(verdict, Verdict::Success, "{words} of {} words", whole.len());
            }
            Err(_) => still_serves(&mut served, &mut client), // closed: no call to answer
        }
    }
    still_serves(&mut served, &mut client);
}

#[test]
fn arguments_that_stop_short_are_garbage_and_the_connection_lives() {
    let Some((served, client)) = start("truncated_arguments") else { return };
    let mut wire = wire(&served);
    let whole = getattr_of_root(7, &client);
    let header = whole.len() - raw::opaque(&client.root().data).len();
    for words in header..whole.len() {
        assert_eq!(verdict(&mut wire, &whole[..words]), Verdict::GarbageArguments, "{words} words");
    }
    let handle_of_4_gib = raw::call_as_root(8, GETATTR, &[u32::MAX, 1, 2, 3]);
    assert_eq!(verdict(&mut wire, &handle_of_4_gib), Verdict::GarbageArguments);
    let handle_too_long = raw::call_as_root(9, GETATTR, &raw::opaque(&[0; 68]));
    assert_eq!(verdict(&mut wire, &handle_too_long), Verdict::GarbageArguments);
}

#[test]
fn a_record_that_ends_in_the_middle_of_nothing_hurts_nobody() {
    let Some((mut served, mut client)) = start("half_records") else { return };
    for bytes in [1, 3, 4, 5, 20] {
        let mut wire = wire(&served);
        let message = raw::bytes_of(&[LAST | 40, 1, 0, 2, raw::NFS, 3]);
        wire.send_bytes(&message[..bytes]).expect("send");
        drop(wire);
    }
    still_serves(&mut served, &mut client);
}

#[test]
fn noise_hurts_nobody() {
    let Some((mut served, mut client)) = start("noise") else { return };
    let mut dice = fastrand::Rng::with_seed(11);
    for round in 0..50 {
        let mut wire = wire(&served);
        let mut noise = vec![0; dice.usize(1..5_000)];
        dice.fill(&mut noise);
        if round % 2 == 0 && noise.len() >= 4 {
            // A believable record mark, so that the noise reaches the decoders.
            let length = u32::try_from(noise.len() - 4).expect("short");
            noise[..4].copy_from_slice(&(LAST | length).to_be_bytes());
        }
        let _ = wire.send_bytes(&noise); // closed on us: an answer
        let _ = wire.end();
    }
    still_serves(&mut served, &mut client);
}

/// Every procedure with arguments of noise behind a correct header.
#[test]
fn noise_as_arguments_hurts_nobody() {
    let Some((mut served, mut client)) = start("noise_arguments") else { return };
    let mut dice = fastrand::Rng::with_seed(12);
    let handle = raw::opaque(&client.root().data);
    let mut wire = wire(&served);
    for xid in 0..2_000 {
        let mut words = if dice.bool() { handle.clone() } else { Vec::new() };
        // Small numbers too: they pass as lengths, and as discriminants.
        words.extend((0..dice.usize(0..20)).map(|_| match dice.u32(0..3) {
            0 => dice.u32(..),
            1 => dice.u32(0..8),
            _ => dice.u32(0..300),
        }));
        let procedure = dice.u32(0..22);
        let reply = wire.ask(&raw::call_as_root(xid, procedure, &words));
        assert_eq!(reply.expect("any reply").xid, xid, "procedure {procedure} {words:x?}");
    }
    still_serves(&mut served, &mut client);
}

#[test]
fn an_unknown_program_version_or_procedure_is_named_and_the_connection_lives() {
    let Some((served, _client)) = start("unknown_program") else { return };
    let mut wire = wire(&served);
    for program in [raw::NFSACL, 100_021, 0, u32::MAX] {
        let words = raw::call(5, program, 3, 0, &[]);
        assert_eq!(verdict(&mut wire, &words), Verdict::ProgramUnavailable, "{program}");
    }
    for version in [0, 2, 4, u32::MAX] {
        let words = raw::call(5, raw::NFS, version, 0, &[]);
        let only_3 = Verdict::ProgramMismatch { low: 3, high: 3 };
        assert_eq!(verdict(&mut wire, &words), only_3, "NFS {version}");
    }
    for (program, version) in [(raw::MOUNT, 77), (raw::PORTMAP, 77)] {
        let answer = verdict(&mut wire, &raw::call(5, program, version, 0, &[]));
        assert!(matches!(answer, Verdict::ProgramMismatch { .. }), "{program}: {answer:?}");
    }
    for (program, version, procedure) in
        [(raw::NFS, 3, 22), (raw::NFS, 3, u32::MAX), (raw::MOUNT, 3, 6), (raw::PORTMAP, 2, 99)]
    {
        let words = raw::call(5, program, version, procedure, &[]);
        let answer = verdict(&mut wire, &words);
        assert_eq!(answer, Verdict::ProcedureUnavailable, "{program} procedure {procedure}");
    }
    let mut newer = raw::call(5, raw::NFS, 3, 0, &[]);
    newer[2] = 3;
    assert_eq!(verdict(&mut wire, &newer), Verdict::RpcMismatch { low: 2, high: 2 });
}

/// AUTH_SYS is at most 400 bytes, 255 of them a machine's name, and 16 groups (RFC 5531, 8.2 and
/// appendix A).
#[test]
fn credentials_that_are_none_are_refused() {
    let Some((served, client)) = start("bad_credentials") else { return };
    let mut wire = wire(&served);
    let handle = raw::opaque(&client.root().data);
    let with = |flavor: u32, body: &[u32]| {
        let length = u32::try_from(body.len() * 4).expect("short");
        let mut words = vec![6, 0, 2, raw::NFS, 3, GETATTR, flavor, length];
        words.extend_from_slice(body);
        words.extend_from_slice(&[0, 0]);
        words.extend_from_slice(&handle);
        words
    };
    let long_name: Vec<u32> = [vec![0], raw::opaque(&[b'm'; 256]), vec![0, 0, 0]].concat();
    let many_groups: Vec<u32> = [vec![0, 0, 0, 0, 17], vec![1; 17]].concat();
    for (what, flavor, body) in [
        ("an unknown flavour", 77, vec![]),
        ("Kerberos", 6, vec![1, 0, 0, 0, 0]),
        ("a machine name of 256 bytes", 1, long_name),
        ("17 groups", 1, many_groups),
        ("groups that are not there", 1, vec![0, 0, 0, 0, 16]),
        ("nothing", 1, vec![]),
        ("too many bytes", 1, vec![0; 101]),
    ] {
        let answer = verdict(&mut wire, &with(flavor, &body));
        let refused = matches!(answer, Verdict::AuthError(_) | Verdict::GarbageArguments);
        assert!(refused, "{what}: {answer:?}");
    }
    assert_eq!(verdict(&mut wire, &with(1, &[0, 0, 0, 0, 0])), Verdict::Success);
}

#[test]
fn a_reply_sent_to_the_server_is_not_answered_as_a_call() {
    let Some((mut served, mut client)) = start("reply_to_server") else { return };
    let mut wire = wire(&served);
    wire.send(&[9, 1, 0, 0, 0, 0]).expect("send");
    wire.end().expect("shut down");
    wire.wait_until_closed().expect("closed");
    still_serves(&mut served, &mut client);
}

#[test]
fn a_call_may_come_in_drops_and_in_fragments() {
    let Some((served, client)) = start("drops_and_fragments") else { return };
    let words = getattr_of_root(3, &client);
    let bytes = raw::bytes_of(&words);
    let mut drops = wire(&served);
    let mark = LAST | u32::try_from(bytes.len()).expect("short");
    for byte in mark.to_be_bytes().iter().chain(&bytes) {
        drops.send_bytes(&[*byte]).expect("send");
    }
    assert_eq!(drops.reply().expect("a reply").verdict, Verdict::Success);

    let mut fragments = wire(&served);
    let mut message = Vec::new();
    let parts: Vec<&[u8]> = bytes.chunks(12).collect();
    for (number, part) in parts.iter().enumerate() {
        let last = if number + 1 == parts.len() { LAST } else { 0 };
        let mark = last | u32::try_from(part.len()).expect("short");
        message.extend_from_slice(&mark.to_be_bytes());
        message.extend_from_slice(part);
    }
    fragments.send_bytes(&message).expect("send");
    assert_eq!(fragments.reply().expect("a reply").verdict, Verdict::Success);
}

#[test]
fn a_hundred_calls_at_once_are_all_answered() {
    let Some((served, client)) = start("pipelined_calls") else { return };
    let mut wire = wire(&served);
    let mut message = Vec::new();
    for xid in 0..100 {
        let bytes = raw::bytes_of(&getattr_of_root(xid, &client));
        let mark = LAST | u32::try_from(bytes.len()).expect("short");
        message.extend_from_slice(&mark.to_be_bytes());
        message.extend_from_slice(&bytes);
    }
    wire.send_bytes(&message).expect("send");
    let answered: BTreeSet<u32> = (0..100)
        .map(|_| {
            let reply = wire.reply().expect("a reply");
            assert_eq!(reply.verdict, Verdict::Success);
            reply.xid
        })
        .collect();
    assert_eq!(answered.len(), 100, "each call once");
}

/// A client that saw no reply sends again with the same xid. What was done is not done twice, and
/// the second reply is the first one.
#[test]
fn a_call_that_is_sent_again_is_not_done_again() {
    let Some((served, mut client)) = start("retransmission") else { return };
    let mut wire = wire(&served);
    let root = raw::opaque(&client.root().data);
    let place = [root.clone(), raw::opaque(b"once")].concat();
    let guarded = 1;
    let create = [place.clone(), vec![guarded, 0, 0, 0, 0, 0, 0]].concat();
    let create = raw::call_as_root(0x1001, CREATE, &create);
    let first = wire.ask(&create).expect("a reply");
    assert_eq!((first.verdict, first.results[0]), (Verdict::Success, 0), "created");
    let second = wire.ask(&create).expect("a reply");
    assert_eq!(second, first, "the same reply, not EXIST");

    let remove = raw::call_as_root(0x1002, REMOVE, &place);
    let first = wire.ask(&remove).expect("a reply");
    assert_eq!(first.results[0], 0, "removed");
    assert_eq!(wire.ask(&remove).expect("a reply"), first, "the same reply, not NOENT");
    let another = raw::call_as_root(0x1003, REMOVE, &place);
    assert_eq!(wire.ask(&another).expect("a reply").results[0], 2, "another call: NOENT");

    // The same xid on other arguments is another call.
    let other_place = [root, raw::opaque(b"other")].concat();
    let other = raw::call_as_root(0x1002, REMOVE, &other_place);
    assert_eq!(wire.ask(&other).expect("a reply").results[0], 2, "NOENT");
    client.null().expect("null");
}

#[test]
fn a_call_repeated_on_any_other_connection_gets_the_first_answer_whatever_shard_took_it() {
    let test = "repeated_elsewhere";
    let Some(served) = Served::start_with(test, |setup| setup.shards = 3) else { return };
    let client = served.connect();
    let root = raw::opaque(&client.root().data);
    let place = |name: &[u8]| [root.clone(), raw::opaque(name)].concat();
    // UNCHECKED, no attributes.
    let create = [place(b"once"), vec![0; 7]].concat();
    let create = raw::call_as_root(0x2001, CREATE, &create);
    assert_eq!(wire(&served).ask(&create).expect("a reply").results[0], 0);
    let remove = raw::call_as_root(0x2002, REMOVE, &place(b"once"));
    assert_eq!(wire(&served).ask(&remove).expect("a reply").results[0], 0, "removed");
    // Connections are spread over the shards: one of a dozen meets each of the three.
    for nth in 0..12 {
        let again = wire(&served).ask(&remove).expect("a reply");
        assert_eq!(again.results[0], 0, "connection {nth}: the answer of the first, not NOENT");
    }
    let another = raw::call_as_root(0x2003, REMOVE, &place(b"once"));
    assert_eq!(wire(&served).ask(&another).expect("a reply").results[0], 2, "another: NOENT");
}
