//! The ledger's spans: most of a welcome. Everyone with work is named once for all of them, and a span says
//! by places who worked in it, so that an entry costs some ten bytes.

use std::collections::BTreeMap;

use prost::bytes::Bytes;

use super::error::{WireError, WireReason, Within};
use super::field::{ascending, at_most, parse_identity};
use super::{ENTRIES_LIMIT, SPAN_ENTRIES_LIMIT, SPANS_LIMIT, pb};
use crate::id::{Identity, WindowSeq};
use crate::window::{Span, Tally};
use crate::work::Work;

const IDENTITY_SIZE: usize = 32;

/// The workers of all spans, and the spans.
pub(super) fn to_wire(spans: &[Span]) -> (Bytes, Vec<pb::Span>) {
    let everyone = spans.iter().flat_map(|span| span.tally.keys());
    let mut places: BTreeMap<&Identity, u32> = everyone.map(|who| (who, 0)).collect();
    for (place, known) in (0..).zip(places.values_mut()) {
        *known = place;
    }
    let bytes = places.keys().flat_map(|who| who.as_bytes());
    let workers = bytes.copied().collect::<Vec<u8>>().into();
    let spans = spans.iter().map(|span| span_to_wire(span, &places));
    (workers, spans.collect())
}

fn span_to_wire(span: &Span, places: &BTreeMap<&Identity, u32>) -> pb::Span {
    let (mut who, mut next) = (Vec::with_capacity(span.tally.len()), 0u32);
    for identity in span.tally.keys() {
        let place = places.get(identity).copied().unwrap_or_default();
        who.push(place.saturating_sub(next));
        next = place.saturating_add(1);
    }
    let works = || span.tally.values().map(|work| work.0);
    let mut work_high: Vec<u64> = works().map(|work| (work >> 64) as u64).collect();
    if work_high.iter().all(|high| *high == 0) {
        work_high.clear();
    }
    pb::Span {
        level: u32::from(span.level),
        last: span.last.0,
        height: span.height,
        who,
        work: works().map(|work| work as u64).collect(),
        work_high,
    }
}

/// Checks workers and spans.
pub(super) fn from_wire(workers: &[u8], spans: Vec<pb::Span>) -> Result<Vec<Span>, WireError> {
    let too_many = |got, limit| WireError::here(WireReason::TooMany { got, limit });
    if spans.len() > SPANS_LIMIT {
        return Err(too_many(spans.len(), SPANS_LIMIT).under("spans"));
    }
    let entries = spans.iter().map(|span| span.who.len());
    let entries: usize = entries.fold(0, usize::saturating_add);
    if entries > SPAN_ENTRIES_LIMIT {
        return Err(too_many(entries, SPAN_ENTRIES_LIMIT).under("spans"));
    }
    let workers = identities(workers).within("workers")?;
    let mut works = vec![false; workers.len()];
    let mut parsed = Vec::with_capacity(spans.len());
    for (place, span) in spans.into_iter().enumerate() {
        let span = span_from_wire(&span, &workers, &mut works);
        let at = |error: WireError| error.under(&format!("[{place}]")).under("spans");
        parsed.push(span.map_err(at)?);
    }
    // One value has one encoding.
    match works.iter().position(|works| !works) {
        None => Ok(parsed),
        Some(idle) => Err(WireError::here(WireReason::Missing)
            .under(&format!("[{idle}]"))
            .under("workers")),
    }
}

fn identities(workers: &[u8]) -> Result<Vec<Identity>, WireError> {
    let (chunks, rest) = workers.as_chunks::<IDENTITY_SIZE>();
    if !rest.is_empty() {
        let (got, want) = (workers.len(), chunks.len() * IDENTITY_SIZE);
        return Err(WireError::here(WireReason::Length { got, want }));
    }
    if chunks.len() > ENTRIES_LIMIT {
        let (got, limit) = (chunks.len(), ENTRIES_LIMIT);
        return Err(WireError::here(WireReason::TooMany { got, limit }));
    }
    ascending("", chunks, |chunk| *chunk)?;
    let parse = |(place, chunk): (usize, &[u8; IDENTITY_SIZE])| {
        parse_identity(chunk).within(&format!("[{place}]"))
    };
    chunks.iter().enumerate().map(parse).collect()
}

fn span_from_wire(
    span: &pb::Span,
    workers: &[Identity],
    works: &mut [bool],
) -> Result<Span, WireError> {
    let length = |got: usize| {
        let want = span.who.len();
        WireError::here(WireReason::Count { got, want })
    };
    if span.work.len() != span.who.len() {
        return Err(length(span.work.len()).under("work"));
    }
    let high = &span.work_high;
    let in_short = high.iter().any(|high| *high != 0) || high.is_empty();
    if !(in_short && (high.is_empty() || high.len() == span.who.len())) {
        return Err(length(high.len()).under("work_high"));
    }
    let mut highs = high.iter().copied().chain(std::iter::repeat(0));
    let (mut tally, mut next) = (Tally::new(), 0u64);
    for (at, (skipped, low)) in span.who.iter().zip(&span.work).enumerate() {
        let place = next.saturating_add(u64::from(*skipped));
        let found = usize::try_from(place).ok().filter(|p| *p < workers.len());
        let Some(found) = found else {
            let limit = (workers.len() as u64).saturating_sub(1);
            let reason = WireReason::OutOfRange { got: place, limit };
            let error = WireError::here(reason).under(&format!("[{at}]"));
            return Err(error.under("who"));
        };
        let high = highs.next().unwrap_or_default();
        works[found] = true;
        let work = u128::from(high) << 64 | u128::from(*low);
        tally.insert(workers[found], Work(work));
        next = place.saturating_add(1);
    }
    Ok(Span {
        level: at_most("level", span.level, u32::from(u8::MAX))?,
        last: WindowSeq(span.last),
        height: span.height,
        tally,
    })
}
