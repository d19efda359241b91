//! Whose turn it is to send a share: any of those who may, as with miners that hash equally fast.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Those who may send.
pub struct Turns<T> {
    waiting: Vec<T>,
    rng: StdRng,
}

impl<T> Turns<T> {
    /// These may.
    pub fn of(waiting: impl IntoIterator<Item = T>) -> Self {
        Self {
            waiting: waiting.into_iter().collect(),
            rng: StdRng::seed_from_u64(1),
        }
    }

    /// One more may.
    pub fn add(&mut self, one: T) {
        self.waiting.push(one);
    }

    /// Draws one, who may not then before it is added again.
    pub fn draw(&mut self) -> Option<T> {
        let count = self.waiting.len();
        (count > 0).then(|| self.waiting.swap_remove(self.rng.random_range(0..count)))
    }
}
