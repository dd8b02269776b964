//! `appliance/fuzz/src/targets/rpc_record.rs` under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| drop(cairn_fuzz::targets::rpc_record::run(input)));
