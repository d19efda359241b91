//! The payee set: replicated state, changed only by `tx_add_output` and `tx_remove_output`.

use std::collections::BTreeMap;

use crate::digest::Digest;
use crate::id::{Identity, SerialId};
use crate::message::TxAddOutput;

/// Most payees of one pool.
pub const PAYEES_LIMIT: usize = 100_000;
/// Most changes of the payee set in one window, so that whoever follows it need not hold more. A thousand
/// of them are left to the coordinator's own output, which a restart may change.
pub const CHANGES_LIMIT: usize = 65_536;
/// A round is proposed on a payee set that is at most so many changes from a window's first: whoever looks
/// for the set that a round names hashes no more of them.
pub const PROPOSED_CHANGES: usize = 64;
/// Outputs that one identity may hold: the active one, and while it moves to a new script, the old.
pub const OUTPUTS_PER_IDENTITY: usize = 2;

#[cfg(test)]
thread_local! {
    /// Payee sets that were hashed.
    pub(crate) static HASHED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// All payees, in the order of the payout's outputs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    payees: BTreeMap<SerialId, TxAddOutput>,
    /// In the order in which they were added; the last is the active one, which is paid.
    by_identity: BTreeMap<Identity, Vec<SerialId>>,
}

/// Why an output is not added or removed. The set is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RosterError {
    /// Even numbers are the coordinator's, odd ones the participants'.
    #[error("serial_id {0} has the other side's parity")]
    WrongParity(SerialId),
    /// Its author did not sign it.
    #[error("output {0} is not signed by its identity")]
    BadSignature(SerialId),
    /// Another output has this number.
    #[error("serial_id {0} is taken")]
    SerialTaken(SerialId),
    /// It may be one that its author took out long ago: only what was signed last comes next.
    #[error("serial_id {0} is not above that of this identity's other output")]
    NotAbove(SerialId),
    /// The identity has all the outputs it may have; remove one first.
    #[error("this identity already has {OUTPUTS_PER_IDENTITY} outputs, its quota")]
    Quota,
    /// No output of this number belongs to this identity.
    #[error("serial_id {0} is not an output of this identity")]
    NotYours(SerialId),
    /// It goes once another is paid: else what was signed before it could take its place.
    #[error("output {0} is the one that its identity is paid to; add its successor first")]
    Active(SerialId),
    /// The pool is full.
    #[error("the pool has {PAYEES_LIMIT} payees, its limit")]
    Full,
}

impl Roster {
    /// Adds a payee's output, which from now on is the one that its identity's work is paid to.
    pub fn add_output(
        &mut self,
        coordinator: &Identity,
        output: TxAddOutput,
    ) -> Result<(), RosterError> {
        self.check_output(coordinator, &output)?;
        self.insert(output)
    }

    /// Adds an output of a full copy, or again one that was added: in their order.
    pub fn restore_output(
        &mut self,
        coordinator: &Identity,
        output: TxAddOutput,
    ) -> Result<(), RosterError> {
        self.check_any(coordinator, &output)?;
        self.insert(output)
    }

    fn insert(&mut self, output: TxAddOutput) -> Result<(), RosterError> {
        let TxAddOutput {
            identity,
            serial_id,
            ..
        } = output;
        if self.payees.len() >= PAYEES_LIMIT {
            return Err(RosterError::Full);
        }
        self.by_identity
            .entry(identity)
            .or_default()
            .push(serial_id);
        self.payees.insert(serial_id, output);
        Ok(())
    }

    /// Whether an output may be added, if there is room.
    pub fn check_output(
        &self,
        coordinator: &Identity,
        output: &TxAddOutput,
    ) -> Result<(), RosterError> {
        self.check_any(coordinator, output)?;
        let own = self.by_identity.get(&output.identity);
        match own.into_iter().flatten().max() {
            Some(highest) if output.serial_id <= *highest => {
                Err(RosterError::NotAbove(output.serial_id))
            }
            _ => Ok(()),
        }
    }

    /// What holds of every output.
    fn check_any(&self, coordinator: &Identity, output: &TxAddOutput) -> Result<(), RosterError> {
        let TxAddOutput {
            identity,
            serial_id,
            ..
        } = *output;
        output
            .verify(coordinator)
            .map_err(|_| RosterError::BadSignature(serial_id))?;
        if serial_id.is_participants() == (identity == *coordinator) {
            return Err(RosterError::WrongParity(serial_id));
        }
        if self.payees.contains_key(&serial_id) {
            return Err(RosterError::SerialTaken(serial_id));
        }
        if self
            .by_identity
            .get(&identity)
            .is_some_and(|own| own.len() >= OUTPUTS_PER_IDENTITY)
        {
            return Err(RosterError::Quota);
        }
        Ok(())
    }

    /// Takes out an output whose successor is paid, as its owner asks.
    pub fn take_out(&mut self, identity: Identity, serial_id: SerialId) -> Result<(), RosterError> {
        match self.active(&identity) {
            Some((active, _)) if active == serial_id => Err(RosterError::Active(serial_id)),
            _ => self.remove_output(identity, serial_id),
        }
    }

    /// Removes an output of this identity: one that has expired, or that was taken out when it might be.
    pub fn remove_output(
        &mut self,
        identity: Identity,
        serial_id: SerialId,
    ) -> Result<(), RosterError> {
        let own = self
            .by_identity
            .get_mut(&identity)
            .ok_or(RosterError::NotYours(serial_id))?;
        let place = own
            .iter()
            .position(|own| *own == serial_id)
            .ok_or(RosterError::NotYours(serial_id))?;
        own.remove(place);
        if own.is_empty() {
            self.by_identity.remove(&identity);
        }
        self.payees.remove(&serial_id);
        Ok(())
    }

    /// Payees in serial_id order.
    pub fn iter(&self) -> impl Iterator<Item = (SerialId, &TxAddOutput)> {
        self.payees
            .iter()
            .map(|(serial_id, payee)| (*serial_id, payee))
    }

    /// The payee with this number.
    pub fn payee(&self, serial_id: SerialId) -> Option<&TxAddOutput> {
        self.payees.get(&serial_id)
    }

    /// The active output of this identity.
    pub fn active(&self, identity: &Identity) -> Option<(SerialId, &TxAddOutput)> {
        let serial_id = self.by_identity.get(identity)?.last()?;
        self.payees.get(serial_id).map(|payee| (*serial_id, payee))
    }

    /// Whether the work of its identity is paid to this output.
    pub fn is_active(&self, serial_id: SerialId, payee: &TxAddOutput) -> bool {
        self.by_identity
            .get(&payee.identity)
            .and_then(|own| own.last())
            == Some(&serial_id)
    }

    /// All outputs in an order in which adding them again gives the same set.
    pub fn in_order_of_adding(&self) -> Vec<(SerialId, &TxAddOutput)> {
        let (mut active, mut older) = (Vec::new(), Vec::new());
        for (serial_id, payee) in self.iter() {
            if self.is_active(serial_id, payee) {
                &mut active
            } else {
                &mut older
            }
            .push((serial_id, payee));
        }
        older.append(&mut active);
        older
    }

    /// Whose outputs they are, in ascending order.
    pub fn identities(&self) -> impl Iterator<Item = &Identity> {
        self.by_identity.keys()
    }

    /// Number of payees.
    pub fn len(&self) -> usize {
        self.payees.len()
    }

    /// Whether nobody is registered.
    pub fn is_empty(&self) -> bool {
        self.payees.is_empty()
    }

    /// Hash of the whole set.
    pub fn digest(&self) -> [u8; 32] {
        #[cfg(test)]
        HASHED.with(|hashed| hashed.set(hashed.get() + 1));
        let mut digest = Digest::new("tutti/roster").count(self.payees.len());
        for (serial_id, payee) in &self.payees {
            digest = digest
                .u64(serial_id.0)
                .fixed(payee.identity.as_bytes())
                .u8(u8::from(self.is_active(*serial_id, payee)))
                .bytes(payee.script.as_script().as_bytes());
        }
        digest.finish()
    }
}
