//! The whole table of inconsistencies, each put into a sound pool and looked for.

use cairn_sim::mutation::{Pools, all};
use std::collections::BTreeSet;

/// Fewer would leave kinds of items untried.
const TABLE_MIN: usize = 100;

#[test]
fn the_verifier_finds_every_inconsistency_as_what_it_is() {
    let mut pools = Pools::default();
    let missed: Vec<String> = all()
        .filter_map(|mutation| {
            let what = pools.try_out(mutation).err()?;
            Some(format!("{} ({}): {what}", mutation.name, mutation.breaks))
        })
        .collect();
    assert!(missed.is_empty(), "{} are missed:\n{}", missed.len(), missed.join("\n"));
}

#[test]
fn each_mutation_has_a_name_of_its_own() {
    let names: BTreeSet<&str> = all().map(|mutation| mutation.name).collect();
    assert_eq!(names.len(), all().count());
    assert!(names.len() >= TABLE_MIN, "{}", names.len());
}
