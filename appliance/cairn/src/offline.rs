//! A pool opened for reading by a command, while no daemon serves it.

use crate::exit::Error;
use cairn_check::CheckError;
use cairn_daemon::{Claim, Mode, Offline, Place, check_failure_on, patiently};

pub struct ReadPool {
    pub place: Place,
    pub offline: Offline,
    /// Keeps daemons off the pool meanwhile.
    claim: Claim,
}

impl ReadPool {
    /// `EBUSY` when it is being served.
    pub fn open(place: &Place) -> Result<ReadPool, Error> {
        let failed = |failure| Error::failure(place, failure);
        let claim = patiently(|| Claim::take(place.devices(), Mode::ReadOnly)).map_err(failed)?;
        let offline = Offline::new(claim.devices()).map_err(failed)?;
        Ok(ReadPool { place: place.clone(), offline, claim })
    }

    pub fn failed(&self, error: CheckError) -> Error {
        Error::failure(&self.place, check_failure_on(error, self.claim.paths()))
    }
}
