//! How much work a double hash is: the limit's arithmetic, counted instead of claimed.

use std::cell::RefCell;

use super::lanes::*;
use super::sha256::{self, INITIAL_STATE, K};
use super::work::{DIGEST_BITS, HEADER_BITS, PADDING, Work};

/// The operations on words that one double hash consists of, where it is made of such.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    pub add: u32,
    /// Three rotations, combined.
    pub big: u32,
    /// Two rotations and a shift, combined.
    pub small: u32,
    pub ch: u32,
    pub maj: u32,
}

thread_local! {
    static COUNT: RefCell<Steps> = RefCell::default();
}

/// A word that only counts what is done to it.
#[derive(Clone, Copy)]
struct V;

fn count(one: impl FnOnce(&mut Steps) -> &mut u32) -> V {
    COUNT.with_borrow_mut(|steps| *one(steps) += 1);
    V
}

fn splat(_: u32) -> V {
    V
}

fn add(_: V, _: V) -> V {
    count(|steps| &mut steps.add)
}

fn big0(_: V) -> V {
    count(|steps| &mut steps.big)
}

fn big1(_: V) -> V {
    count(|steps| &mut steps.big)
}

fn small0(_: V) -> V {
    count(|steps| &mut steps.small)
}

fn small1(_: V) -> V {
    count(|steps| &mut steps.small)
}

fn ch(_: V, _: V, _: V) -> V {
    count(|steps| &mut steps.ch)
}

fn maj(_: V, _: V, _: V) -> V {
    count(|steps| &mut steps.maj)
}

impl Steps {
    /// Of one double hash.
    pub fn of_a_hash() -> Self {
        COUNT.set(Self::default());
        let V = last_word!(&Work::new(INITIAL_STATE, [0; 3]), V);
        COUNT.take()
    }

    /// Instructions, where each of the five takes so many.
    pub fn instructions(self, [add, big, small, ch, maj]: [u32; 5]) -> u32 {
        self.add * add + self.big * big + self.small * small + self.ch * ch + self.maj * maj
    }
}
