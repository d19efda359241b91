use crate::lane::Assignments;

/// Who hashes what in the rounds proposed from now on; sent when it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssignmentsSet {
    /// All slices: disjoint, each with its owner.
    pub assignments: Assignments,
}
