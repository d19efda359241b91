//! One test per lie, named after it. Whoever lies is caught by a core that knows the rules and
//! nothing else: the honest sign and hash nothing wrong, the lie has a name, and once it stops the
//! pool goes on with everybody.
//!
//! What a lying coordinator says is always validly signed in its name: every lie here is one that it
//! can tell, not one that a stranger on the wire could.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod coordinator {
    mod amounts;
    mod bookings;
    mod carries;
    mod commits;
    mod credits;
    mod direct;
    mod evidence;
    mod jobs;
    mod ledgers;
    mod plans;
    mod relays;
    mod slices;
    mod slots;
    mod two_histories;
}
mod liar;
mod participant {
    mod disconnects;
    mod floods;
    mod outputs;
    mod partials;
    mod silence;
    mod slots;
    mod stalls;
}
mod pool;
mod stranger;
