//! Every target over its corpus and a bounded number of mutations: what each change is checked with.
//! More of it is `cargo xtask fuzz`.

use cairn_fuzz::corpus::{self, BYTES_MAX, FILES_MAX};
use cairn_fuzz::{TARGETS, Target, runner, targets};
use std::collections::BTreeSet;

/// Of each target; a second or so in a build without much optimisation.
const INPUTS: u64 = 3_000;

fn run(target: &Target) {
    let inputs = corpus::read(&corpus::folder(), target).expect("the corpus is checked in");
    let outcome = runner::run(target, &inputs, 1, &mut |done| done < INPUTS, &mut |_| ());
    println!("{}: {outcome}", target.name);
    if let Some(complaint) = outcome.complaint() {
        panic!("{}: {complaint}", target.name);
    }
}

macro_rules! targets {
    ($($name:ident),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                run(targets::find(stringify!($name)).expect("a target"));
            }
        )*

        #[test]
        fn every_target_is_run_here() {
            let listed: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(listed, [$(stringify!($name)),*]);
        }
    };
}

targets!(superblock, node, log_batch, rpc_record, nfs_args, mount_args, control, config);

#[test]
fn a_corpus_is_small_and_what_the_writers_make_is_in_it() {
    for target in TARGETS {
        let inputs = corpus::read(&corpus::folder(), target).expect("the corpus is checked in");
        let bytes: usize = inputs.iter().map(|input| input.bytes.len()).sum();
        assert!(inputs.len() <= FILES_MAX, "{}: {} files", target.name, inputs.len());
        assert!(bytes <= BYTES_MAX, "{}: {bytes} bytes", target.name);
        let checked_in: BTreeSet<_> = inputs.iter().map(|input| &input.bytes).collect();
        for specimen in (target.specimens)() {
            let name = corpus::file_name(target, &specimen);
            assert!(
                checked_in.contains(&specimen.bytes),
                "{}: {name} is missing or stale: cargo run -p cairn-fuzz -- --write-corpus",
                target.name
            );
        }
    }
}

#[test]
fn a_corpus_is_written_and_read_back_under_names_that_hold() {
    let folder = tempfile::tempdir().expect("a folder");
    for target in TARGETS {
        let written = corpus::write(folder.path(), target).expect("written");
        let inputs = corpus::read(folder.path(), target).expect("read");
        assert_eq!(inputs.len(), written, "{}: two specimens of one name", target.name);
        let outcome = runner::run(target, &inputs, 0, &mut |_| false, &mut |_| ());
        assert!(outcome.failure.is_none(), "{}: {:?}", target.name, outcome.failure);
        assert!(inputs.iter().any(|input| input.name.starts_with("ok-")), "{}", target.name);
    }
}
