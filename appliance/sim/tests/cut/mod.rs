//! A power cut, and what the verifier says of what lies on the devices then.

use cairn_check::{CheckOptions, Report, check};
use cairn_sim::world::World;

/// Cuts the power here and verifies everything, data included.
pub fn cut_and_verify(world: &mut World) -> Result<(), String> {
    world.crash();
    world.media.borrow_mut().power_on();
    let (mut machine, disk) = world.bare_machine(1);
    let options = CheckOptions { data: true, ..CheckOptions::default() };
    let report = machine.run(0, async move { check(&disk, options, |_| ()).await });
    let report: Report = report.expect("the machine runs").map_err(|e| e.to_string())?;
    match report.findings.first() {
        Some(finding) => Err(format!("{finding:?}")),
        None => Ok(()),
    }
}
