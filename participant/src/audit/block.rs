//! One found block: its header, and, where its booking is not among the files, what its checkpoint
//! says of it.

use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use tutti_proto::audit::{BookingReport, check_header, find_header};
use tutti_proto::id::{LaneIndex, WindowSeq};
use tutti_proto::params::PoolName;

use super::checkpoints::Whole;
use super::{Audit, Difference};

impl Audit<'_> {
    /// Looks for the header of the block that is to be explained; without a booking among the files,
    /// explains it from its checkpoint.
    pub(super) fn explain(&mut self, pool: &PoolName) -> Result<(), Difference> {
        let Some(block) = self.args.block else {
            return Ok(());
        };
        // With the state before its booking, nothing of its checkpoint is needed.
        if !self.booked.as_ref().is_some_and(|(_, it)| it.checked) {
            self.broken_of(&block)?;
        }
        match self.booked.take() {
            Some((window, booking)) => self.booked_header(block, window, &booking),
            None => self.unbooked(block, pool),
        }
    }

    fn booked_header(
        &mut self,
        block: BlockHash,
        window: WindowSeq,
        booking: &BookingReport,
    ) -> Result<(), Difference> {
        let hash = block.to_byte_array();
        let mut header = self.args.header;
        if booking.among_shares {
            let first = booking.terms.terms().inputs.ledger.seq;
            let windows = self.sources.windows();
            for window in windows.filter(|it| (first..=window).contains(it)) {
                let Some(file) = self.sources.read(window)? else {
                    continue;
                };
                let Ok(Some(found)) = find_header(&file.segment, &hash) else {
                    continue;
                };
                if found.lane != booking.lane {
                    let (claimed, found) = (booking.lane, Box::new(found));
                    return Err(Difference::Lane {
                        block,
                        claimed,
                        found,
                    });
                }
                self.outcome.found_by(&found);
                header = Some(found.header);
                break;
            }
        }
        if let Some(header) = header {
            check_header(&header, &hash, &booking.terms, booking.lane)
                .map_err(|error| Difference::Header { block, error })?;
            self.outcome.header_checked = true;
        }
        Ok(())
    }

    fn unbooked(&mut self, block: BlockHash, pool: &PoolName) -> Result<(), Difference> {
        let Some(whole) = self.checkpoint_of(&block).cloned() else {
            self.outcome.notes.push(format!(
                "block {block} is not booked after these windows, and no checkpoint is named after it"
            ));
            return Ok(());
        };
        let Whole {
            path, checkpoint, ..
        } = whole;
        let wrong = |error| Difference::Audit {
            path: path.clone(),
            error: Box::new(error),
        };
        let Some(signed) = checkpoint.signed else {
            let words =
                "its checkpoint has no signed round: the windows up to its booking are needed";
            self.outcome.notes.push(words.to_owned());
            return Ok(());
        };
        let Ok(terms) = signed.terms.check(pool) else {
            return Ok(()); // The auditor has checked it.
        };
        let lanes = (0..terms.terms().params.lanes).map(LaneIndex);
        let hash = block.to_byte_array();
        let header = self.args.header;
        let fits = |lane: &LaneIndex| {
            header.is_some_and(|header| check_header(&header, &hash, &terms, *lane).is_ok())
        };
        let lane = lanes.clone().find(fits);
        if let (Some(header), None) = (header, lane) {
            let error = check_header(&header, &hash, &terms, LaneIndex(0)).err();
            return error.map_or(Ok(()), |error| Err(Difference::Header { block, error }));
        }
        self.outcome.header_checked = lane.is_some();
        if lane.is_none() {
            let words = "the block's booking is not in these windows and no header was given: that the block is of this round is what the checkpoint's name says; lane 0 is shown, all lanes pay the same amounts";
            self.outcome.notes.push(words.to_owned());
        }
        let lane = lane.unwrap_or(LaneIndex(0));
        // The one that has seen the windows before it knows more than the checkpoint says.
        let met = match &mut self.met {
            Some(auditor) => auditor.explain_lane(&terms, lane).map_err(wrong)?,
            None => None,
        };
        let explanation = match met {
            Some(explanation) => Some(explanation),
            None => {
                let mut auditor = self.auditor(pool)?;
                auditor.explain_lane(&terms, lane).map_err(wrong)?
            }
        };
        if let Some(explanation) = explanation {
            let why = self.args.identity.as_ref();
            self.outcome.explain(block, explanation, why);
        }
        Ok(())
    }
}
