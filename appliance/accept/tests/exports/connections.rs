//! How many connections there may be, how slow they may be, and where they arrive.

use super::{LIMIT, ROOT, World, export};
use cairn_accept::raw::{self, LAST, Wire};
use cairn_accept::{Client, Cred, ServeConfig, eventually, skip};
use std::net::{Ipv6Addr, SocketAddr, TcpListener};

fn config(nfs: &str) -> ServeConfig {
    ServeConfig { nfs: nfs.to_owned(), exports: ROOT.to_owned(), listen: None }
}

fn null(wire: &mut Wire) -> bool {
    wire.ask(&raw::call(7, raw::NFS, 3, 0, &[])).is_ok()
}

#[test]
fn one_connection_too_many_is_closed_and_the_others_live() {
    let nfs = "connections_max = 5\nconnections_per_client_max = 3";
    let start = |setup: &mut cairn_accept::Setup| setup.serve = Some(config(nfs));
    let Some(world) = World::start_with("connection_limits", start) else { return };
    let to = world.daemon.address().nfs;
    let connect = |last: u8| Wire::connect_from(to, Some(super::other(last))).ok().filter(|_| true);
    // What made the directories has gone by the time it is not counted any more.
    let gone = eventually(LIMIT, || (world.shown()["nfs"]["connections"] == 0).then_some(()));
    assert!(gone.is_some(), "{}", world.shown());
    let mut open: Vec<Wire> = Vec::new();
    let mut refused = 0;
    for (last, tries) in [(5, 6), (6, 6)] {
        for _ in 0..tries {
            let Some(mut wire) = connect(last) else {
                refused += 1;
                continue;
            };
            if null(&mut wire) {
                open.push(wire);
            } else {
                refused += 1;
            }
        }
    }
    assert_eq!((open.len(), refused), (5, 7), "3 of the first and 2 of the second");
    for wire in &mut open {
        assert!(null(wire), "those that were let in stay");
    }
    let shown = world.shown();
    assert_eq!(shown["nfs"]["connections"], 5);
    assert_eq!(shown["nfs"]["connections_refused"], 7);
    let clients = &shown["clients"];
    assert_eq!(clients[0]["address"], "127.0.0.5");
    assert_eq!((&clients[0]["connections"], &clients[1]["connections"]), (&3.into(), &2.into()));
    let status = world.daemon.command(&["status"]).expect("status").stdout;
    assert!(status.contains("connections 5 max 5 per_client_max 3"), "{status}");
    drop(open);
    let again = eventually(LIMIT, || {
        connect(7).filter(|_| true).and_then(|mut w| null(&mut w).then_some(()))
    });
    assert!(again.is_some(), "places that were given back are free");
}

#[test]
fn a_call_that_does_not_become_whole_ends_its_connection_and_silence_does_not() {
    let Some(mut world) = World::start("slow_loris", ROOT) else { return };
    world.reload(config("record_seconds_max = 1"));
    let to = world.daemon.address().nfs;
    let mut silent = Wire::connect(to).expect("connect");
    assert!(null(&mut silent));
    let mark = LAST | 1000;
    for bytes in [&mark.to_be_bytes()[..1], &mark.to_be_bytes(), &[0x80, 0, 3, 0, 1, 2, 3]] {
        let mut slow = Wire::connect(to).expect("connect");
        slow.send_bytes(bytes).expect("send");
        slow.wait_until_closed().expect("closed by the server, long before our patience ends");
    }
    assert!(null(&mut silent), "it has sent nothing all the time, and is kept");
    assert_eq!(world.shown()["nfs"]["connections_cut"], 3);
}

#[test]
fn a_client_that_takes_no_answers_is_cut_off() {
    let Some(mut world) = World::start("takes_no_answers", ROOT) else { return };
    world.reload(config("send_seconds_max = 1"));
    let client = world.client("/");
    let root = raw::opaque(&client.root().data);
    let to = world.daemon.address().nfs;
    let mut deaf = Wire::connect(to).expect("connect");
    // READDIRPLUS: an answer is some hundred bytes. What sockets hold is full after some megabytes.
    let listing = [root, vec![0, 0, 0, 0, 1 << 20, 1 << 20]].concat();
    let call = raw::call_as_root(1, 17, &listing);
    let mut bytes = raw::bytes_of(&[LAST | (call.len() * 4) as u32]);
    bytes.extend(raw::bytes_of(&call));
    let many = bytes.repeat(1000);
    let cut = (0..1000).any(|_| deaf.send_bytes(&many).is_err());
    assert!(cut, "the server went on reading from somebody who takes nothing");
    assert_eq!(world.shown()["nfs"]["connections_cut"], 1);
}

#[test]
fn a_daemon_listens_on_ipv6_and_on_several_addresses() {
    let test = "several_addresses";
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        return skip(test, "IPv6 on the loopback");
    }
    let start = |setup: &mut cairn_accept::Setup| {
        let port = setup.port;
        let listen = format!("\"127.0.0.1:{port}\", \"[::1]:{port}\", \"127.0.0.3:{port}\"");
        let exports = export("/a", "clients = ['::1']\nsquash = 'none'");
        setup.serve = Some(ServeConfig { listen: Some(listen), nfs: String::new(), exports });
    };
    let Some(world) = World::start_with(test, start) else { return };
    let v4 = world.daemon.address();
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, v4.nfs.port()));
    let mut over_v6 = v4.export("/a");
    (over_v6.nfs, over_v6.mount) = (v6, v6);
    let mut client = Client::connect(&over_v6, &Cred::ROOT).expect("mount over IPv6");
    let root = client.root().clone();
    client.mkdir(&root, b"six", super::open()).expect("mkdir over IPv6");
    let refused = Client::mount(&v4.export("/a"), &Cred::ROOT, b"/a").expect_err("::1 only");
    assert_eq!(refused.status().map(|status| status as u32), Some(13));
    let mut third = v4.clone();
    third.nfs = SocketAddr::from(([127, 0, 0, 3], v4.nfs.port()));
    third.mount = third.nfs;
    Client::mount(&third.from(super::other(1)), &Cred::ROOT, b"/").expect("the third address");
    let shown = world.shown();
    assert!(shown["clients"].to_string().contains("\"::1\""), "{shown}");
}
