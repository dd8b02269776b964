//! Randomness that repeats: the entropy door, fed from the seed.

use cairn_base::door;
use cairn_base::prng::Prng;
use std::cell::RefCell;
use std::rc::Rc;

#[derive(Clone)]
pub struct Entropy {
    prng: Rc<RefCell<Prng>>,
}

impl Entropy {
    pub fn new(seed: u64) -> Entropy {
        Entropy { prng: Rc::new(RefCell::new(Prng::new(seed ^ 0x656e_7472))) }
    }
}

impl door::Entropy for Entropy {
    fn fill(&self, bytes: &mut [u8]) {
        self.prng.borrow_mut().fill(bytes);
    }
}
