//! Closed windows as files: written once, named by what they hold, served to whoever asks.
//!
//! A window's shares are in the store until its segment is durable, and from then on in the segment.
//! A segment is checked before it is written, as a follower would check it: nothing becomes one that
//! an auditor would refuse.

mod archive;
mod assemble;
mod checkpoint;
mod directory;
mod error;
mod frames;
mod known;
mod library;
mod pack;
mod retention;

pub use archive::{Archive, ArchiveSettings, CheckpointSlot, Durable};
pub use assemble::shares_of;
pub use checkpoint::{CheckpointSource, last_signed, state_of};
pub(crate) use checkpoint::{output_change, proof};
pub use directory::{Directory, Index, Name};
pub use error::SegmentError;
pub use frames::{SegmentFrames, checkpoint_frame, end_frame, part_frame, trimmed};
pub(crate) use known::KnownTerms;
pub use library::{Library, Unserved};
pub use pack::{PackError, Packer, rolled, tip};
