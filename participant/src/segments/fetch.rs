//! Fetching files of closed windows from a coordinator, or from whoever serves them on. Bytes are
//! kept only under the name that is theirs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use thiserror::Error;
use tokio::time::timeout;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use tutti_proto::id::WindowSeq;
use tutti_proto::segment::{BadFileId, Checkpoint, FileId};
use tutti_proto::window::Ledger;
use tutti_proto::wire::pb::file_request::File;
use tutti_proto::wire::pb::ledger_client::LedgerClient;
use tutti_proto::wire::{FILE_LIMIT, MESSAGE_LIMIT_TO_PARTICIPANT, pb};

use super::{FileError, FileName, Kept, check, keep_bytes, list};
use crate::client::causes;
use crate::store::StoreError;

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Between two pieces.
const PIECE_WITHIN: Duration = Duration::from_secs(60);

/// What to fetch, and where from.
#[derive(Clone, Debug)]
pub struct Fetch {
    /// `http://host:port`.
    pub url: String,
    /// Where to keep the files.
    pub out: PathBuf,
    /// First and last window; without a last one, as far as there are any. None: those that explain the block.
    pub windows: Option<(WindowSeq, Option<WindowSeq>)>,
    /// The block whose checkpoint to fetch.
    pub block: Option<BlockHash>,
}

/// What came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Files that are new here.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Windows that were here already.
    pub here: u64,
    /// The last window that is here now, of those asked for.
    pub last: Option<WindowSeq>,
}

/// Why a file did not come.
#[derive(Debug, Error)]
pub enum FetchError {
    #[error(
        "cannot connect to {url}: {reason}; is a coordinator, or `serve-segments`, running there?"
    )]
    Connect { url: String, reason: String },
    #[error("{what}: {words}")]
    Refused {
        what: String,
        code: Code,
        words: String,
    },
    #[error(
        "window {missing} is not kept at {url}; windows {from} to {last} are here now, {new} of them new: ask for no more than --to {last}, or ask another who serves them"
    )]
    NotKept {
        url: String,
        missing: WindowSeq,
        from: WindowSeq,
        last: WindowSeq,
        /// Files.
        new: u64,
    },
    #[error("{what}: nothing came for {} s", PIECE_WITHIN.as_secs())]
    Silent { what: String },
    #[error("{what}: the server names no file: {error}")]
    Name { what: String, error: BadFileId },
    #[error("{what}: the server says {length} bytes, and no file has more than {FILE_LIMIT}")]
    TooLarge { what: String, length: u64 },
    #[error("{what}: {got} of {length} bytes came")]
    Short { what: String, got: u64, length: u64 },
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl FetchError {
    fn is_not_there(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if *code == Code::NotFound)
    }
}

/// Fetches what is not here yet. `progress` hears of each window.
pub async fn fetch(
    request: &Fetch,
    mut progress: impl FnMut(WindowSeq),
) -> Result<Fetched, FetchError> {
    let mut client = connect(&request.url).await?;
    let mut fetched = Fetched::default();
    let mut explained_from = None;
    if let Some(block) = request.block {
        let what = format!("checkpoint of block {block}");
        let wanted = File::Block(block.to_byte_array().to_vec().into());
        let (cid, bytes) = download(&mut client, wanted, &what).await?;
        let name = FileName::Checkpoint(block, cid);
        if let Kept::Checkpoint(checkpoint) = keep(&request.out, &name, &bytes, &mut fetched)? {
            explained_from = Some((counts_from(&checkpoint), checkpoint.ledger.seq.next()));
        }
    }
    let explains = request.block.filter(|_| request.windows.is_none());
    let windows = request.windows;
    let Some((from, to)) = windows.or(explained_from.map(|(from, _)| (from, None))) else {
        return Ok(fetched);
    };
    // Of a block that was settled long ago less may be kept, or the checkpoint alone.
    let mut or_from = explained_from
        .filter(|_| explains.is_some())
        .map(|(_, or)| or);
    // Of a window there may be several: one that is whole suffices.
    let mut here: BTreeMap<WindowSeq, Vec<PathBuf>> = BTreeMap::new();
    for (name, path) in list(&request.out)? {
        if let FileName::Segment(window, _) = name {
            here.entry(window).or_default().push(path);
        }
    }
    // New here.
    let mut segments = 0;
    let mut window = from;
    while to.is_none_or(|to| window <= to) {
        let mut paths = here.get(&window).into_iter().flatten();
        let kept = if let Some(kept) = paths.find_map(|path| super::read(path).ok()) {
            fetched.here += 1;
            kept
        } else {
            let what = format!("segment of window {window}");
            let (cid, bytes) = match download(&mut client, File::Window(window.0), &what).await {
                Err(error) if to.is_none() && error.is_not_there() => {
                    match or_from.take().filter(|or_from| window < *or_from) {
                        Some(or_from) => window = or_from,
                        None if window > from || explains.is_some() => break,
                        None => return Err(error),
                    }
                    continue;
                }
                answer => answer.map_err(|error| {
                    let last = fetched.last.filter(|_| error.is_not_there());
                    last.map_or(error, |last| FetchError::NotKept {
                        url: request.url.clone(),
                        missing: window,
                        from,
                        last,
                        new: segments,
                    })
                })?,
            };
            segments += 1;
            let name = FileName::Segment(window, cid);
            keep(&request.out, &name, &bytes, &mut fetched)?
        };
        fetched.last = Some(window);
        progress(window);
        if explains.is_some_and(|block| books(&kept, &block)) {
            break;
        }
        window = window.next();
    }
    Ok(fetched)
}

/// The first window whose work the round of a checkpoint's block pays; without a round, the next.
fn counts_from(checkpoint: &Checkpoint) -> WindowSeq {
    let next = checkpoint.ledger.seq.next();
    let Some(signed) = &checkpoint.signed else {
        return next;
    };
    let ledger = Ledger::from_snapshot(checkpoint.ledger.clone(), &checkpoint.head.head);
    let terms = &signed.terms;
    let from = ledger
        .ok()
        .and_then(|ledger| terms.params.counts_from(&ledger, terms.inputs.bits).ok());
    from.unwrap_or(next).max(WindowSeq(1)).min(next)
}

/// Whether this is the segment of the window that books a block: its shares and amounts are of windows before.
fn books(kept: &Kept, block: &BlockHash) -> bool {
    let Kept::Segment(segment) = kept else {
        return false;
    };
    let mut bookings = segment.end.record.bookings.iter();
    bookings.any(|booking| !booking.undone && booking.block == block.to_byte_array())
}

async fn connect(url: &str) -> Result<LedgerClient<Channel>, FetchError> {
    let failed = |error: &dyn std::error::Error| FetchError::Connect {
        url: url.to_owned(),
        reason: causes(error),
    };
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|error| failed(&error))?;
    let channel = endpoint.connect_timeout(CONNECT_WITHIN).connect().await;
    let channel = channel.map_err(|error| failed(&error))?;
    Ok(LedgerClient::new(channel).max_decoding_message_size(MESSAGE_LIMIT_TO_PARTICIPANT))
}

/// Receives a file, of no more bytes than any has.
async fn download(
    client: &mut LedgerClient<Channel>,
    file: File,
    what: &str,
) -> Result<(FileId, Vec<u8>), FetchError> {
    let what = || what.to_owned();
    let refused = |status: tonic::Status| FetchError::Refused {
        what: what(),
        code: status.code(),
        // A stranger's words, on a person's terminal.
        words: status.message().replace(char::is_control, " "),
    };
    let request = pb::FileRequest { file: Some(file) };
    let answer = timeout(PIECE_WITHIN, client.file(request)).await;
    let answer = answer.map_err(|_| FetchError::Silent { what: what() })?;
    let mut chunks = answer.map_err(refused)?.into_inner();
    let (mut named, mut length) = (None, 0);
    let mut bytes: Vec<u8> = Vec::new();
    loop {
        let chunk = timeout(PIECE_WITHIN, chunks.message()).await;
        let chunk = chunk.map_err(|_| FetchError::Silent { what: what() })?;
        let Some(chunk) = chunk.map_err(refused)? else {
            break;
        };
        length = chunk.length;
        let got = bytes.len().saturating_add(chunk.bytes.len());
        if length > FILE_LIMIT as u64 || got > FILE_LIMIT {
            let what = what();
            return Err(FetchError::TooLarge { what, length });
        }
        named.get_or_insert(chunk.cid);
        bytes.extend_from_slice(&chunk.bytes);
    }
    let got = bytes.len() as u64;
    if got != length {
        let what = what();
        return Err(FetchError::Short { what, got, length });
    }
    let cid = named.unwrap_or_default().parse();
    let cid = cid.map_err(|error| FetchError::Name {
        what: what(),
        error,
    })?;
    Ok((cid, bytes))
}

/// Keeps bytes that are what they are said to be.
fn keep(
    out: &Path,
    name: &FileName,
    bytes: &[u8],
    fetched: &mut Fetched,
) -> Result<Kept, FetchError> {
    let path = out.join(name.to_string());
    let kept = check(&path, Some(name), bytes)?;
    keep_bytes(out, name, bytes)?;
    fetched.files += 1;
    fetched.bytes += bytes.len() as u64;
    Ok(kept)
}
