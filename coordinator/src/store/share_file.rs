//! Shares beside sled: of each window a file that is only appended to.
//!
//! Nearly all that is saved is shares and nothing else. They cost one write and one flush here, while sled
//! writes a whole leaf again for each record that it adds to it. Shares that are saved together with
//! anything else go to sled with it: that is one atomic write. So a window has shares in both, and
//! each record says where it begins.
//!
//! A record is the place of its first share in the window (64 bits), how many there are (32 bits), and they,
//! sealed like any other record. Each is one write, and durable before the next one is begun. So at most one was cut
//! short before it was acknowledged, and it is the last: it is removed at the next start. Whatever else cannot be read
//! is damage.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tutti_daemon::durable;
use tutti_proto::id::WindowSeq;
use tutti_proto::share::{SHARE_RECORD_SIZE, ShareRecord};

use super::key::Key;
use super::record::{RecordError, SEAL_SIZE, seal_shares, unseal};

/// Below the store.
pub(super) const NAME: &str = "shares";
/// Bytes before what is sealed.
const HEAD_SIZE: usize = 8 + 4;
/// Most shares of a record; more than these never come at once.
pub(super) const SHARES_MAX: usize = 512;
const RECORD_MAX: u64 = (HEAD_SIZE + SEAL_SIZE + SHARES_MAX * SHARE_RECORD_SIZE) as u64;
/// Bytes of a file that is removed between two pauses: whoever flushes next waits for what the file system
/// has to write about it.
const REMOVED_AT_ONCE: u64 = 8 << 20;
const REMOVE_SPACING: Duration = Duration::from_millis(5);

/// The files of all windows.
#[derive(Clone)]
pub(super) struct ShareFiles {
    directory: PathBuf,
}

/// The file that is written.
pub(super) struct Appender {
    files: ShareFiles,
    open: Option<(WindowSeq, File)>,
    buffer: Vec<u8>,
}

/// A file that is read, record by record.
pub(super) struct ShareFile {
    window: WindowSeq,
    file: BufReader<File>,
    /// Where the next record begins.
    at: u64,
    length: u64,
}

/// A record whose checksum is right.
pub(super) struct Run {
    /// Place of its first share in the window.
    pub(super) first: u64,
    pub(super) count: u64,
    pub(super) sealed: Vec<u8>,
}

impl Run {
    fn end(&self) -> u64 {
        self.first.saturating_add(self.count)
    }
}

/// What a file has.
#[derive(Default)]
pub(super) struct Extent {
    /// Place after the last share of a whole record.
    pub(super) end: u64,
    /// Shares of whole records.
    pub(super) shares: u64,
    /// Where the last record begins, if it was cut short.
    pub(super) torn: Option<u64>,
}

impl ShareFiles {
    pub(super) fn new(store: &Path) -> Self {
        let directory = store.join(NAME);
        Self { directory }
    }

    /// Makes the directory, and its name durable: whoever made it may have been stopped before that.
    pub(super) fn create(&self) -> io::Result<()> {
        if !self.directory.is_dir() {
            fs::create_dir(&self.directory)?;
        }
        durable::sync_entry(&self.directory)
    }

    /// The windows of which there is a file.
    pub(super) fn windows(&self) -> io::Result<Vec<WindowSeq>> {
        let mut windows = Vec::new();
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(windows),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            // Whatever else lies there is nobody's.
            let number = name.to_str().and_then(|name| name.parse().ok());
            if entry.file_type()?.is_file() {
                windows.extend(number.map(WindowSeq));
            }
        }
        Ok(windows)
    }

    /// A window's shares from the first on; none if nothing of it is in a file.
    pub(super) fn read(&self, window: WindowSeq) -> io::Result<Option<ShareFile>> {
        let file = match File::open(self.path(window)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let length = file.metadata()?.len();
        Ok(Some(ShareFile {
            window,
            file: BufReader::with_capacity(1 << 18, file),
            at: 0,
            length,
        }))
    }

    /// What a window's file has.
    pub(super) fn extent(&self, window: WindowSeq) -> io::Result<Extent> {
        let mut extent = Extent::default();
        let Some(mut file) = self.read(window)? else {
            return Ok(extent);
        };
        while let Some(run) = file.next()? {
            if let Ok(run) = run {
                extent.end = extent.end.max(run.end());
                extent.shares = extent.shares.saturating_add(run.count);
                continue;
            }
            if !file.skip()? {
                extent.torn = file.is_one_record()?.then_some(file.at);
                break;
            }
        }
        Ok(extent)
    }

    /// Makes the open window's file durable as it is read from now on, without a last record that was cut short
    /// where this one begins. Its writer may have been stopped before it was durable, or because it could not be: then
    /// the system takes for written what is not, so that the end is written again.
    pub(super) fn settle(&self, window: WindowSeq, torn: Option<u64>) -> io::Result<()> {
        let path = self.path(window);
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            file => file?,
        };
        if let Some(torn) = torn {
            file.set_len(torn)?;
        }
        let length = file.metadata()?.len();
        let last = length.saturating_sub(RECORD_MAX);
        let mut bytes = Vec::new();
        (&file).seek(SeekFrom::Start(last))?;
        (&file).read_to_end(&mut bytes)?;
        file.write_all_at(&bytes, last)?;
        file.sync_all()?;
        durable::sync_entry(&path)
    }

    /// Removes a window's file. Whatever a crash brings back is removed after it.
    pub(super) fn remove(&self, window: WindowSeq) -> io::Result<()> {
        let path = self.path(window);
        let file = match OpenOptions::new().write(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            file => file?,
        };
        let mut length = file.metadata()?.len();
        while length > REMOVED_AT_ONCE {
            length = length.saturating_sub(REMOVED_AT_ONCE);
            file.set_len(length)?;
            std::thread::sleep(REMOVE_SPACING);
        }
        fs::remove_file(&path)
    }

    fn path(&self, window: WindowSeq) -> PathBuf {
        self.directory.join(window.0.to_string())
    }
}

impl Appender {
    pub(super) fn new(files: ShareFiles) -> Self {
        Self {
            files,
            open: None,
            buffer: Vec::new(),
        }
    }

    /// Makes consecutive shares of a window durable, as one record.
    pub(super) fn append(
        &mut self,
        window: WindowSeq,
        first: u64,
        shares: &[&ShareRecord],
    ) -> io::Result<()> {
        let mut content = Vec::with_capacity(shares.len().saturating_mul(SHARE_RECORD_SIZE));
        for share in shares {
            content.extend_from_slice(&share.to_bytes());
        }
        let count = u32::try_from(shares.len()).map_err(io::Error::other)?;
        let sealed = seal_shares(&Key::Share(window, first), &content);
        self.buffer.clear();
        self.buffer.extend_from_slice(&first.to_be_bytes());
        self.buffer.extend_from_slice(&count.to_be_bytes());
        self.buffer.extend_from_slice(&sealed);
        let file = match &mut self.open {
            Some((of, file)) if *of == window => file,
            _ => return self.begin(window),
        };
        file.write_all(&self.buffer)?;
        file.sync_data()
    }

    /// The first of a window since the start: its file's name is durable, too.
    fn begin(&mut self, window: WindowSeq) -> io::Result<()> {
        let path = self.files.path(window);
        let mut options = OpenOptions::new();
        let mut file = options.append(true).create(true).mode(0o600).open(&path)?;
        file.write_all(&self.buffer)?;
        file.sync_all()?;
        durable::sync_entry(&path)?;
        self.open = Some((window, file));
        Ok(())
    }
}

impl ShareFile {
    /// The next record: none at the end, and what is wrong with one that is not whole, before which it stays.
    pub(super) fn next(&mut self) -> io::Result<Option<Result<Run, RecordError>>> {
        let left = self.length.saturating_sub(self.at);
        if left == 0 {
            return Ok(None);
        }
        if left < HEAD_SIZE as u64 {
            return Ok(Some(Err(RecordError::Length)));
        }
        let mut head = [0; HEAD_SIZE];
        self.file.read_exact(&mut head)?;
        let Some(head) = Head::read(&head).filter(|head| head.size() <= left) else {
            return Ok(Some(Err(RecordError::Length)));
        };
        let mut sealed = vec![0; head.sealed];
        self.file.read_exact(&mut sealed)?;
        let run = head.run(self.window, sealed);
        if run.is_ok() {
            self.at = self.at.saturating_add(head.size());
        }
        Ok(Some(run))
    }

    /// Goes on to the next whole record, if one begins within the length of one.
    fn skip(&mut self) -> io::Result<bool> {
        let rest = self.rest(2 * RECORD_MAX)?;
        for at in 1..rest.len() {
            let (_, from) = rest.split_at(at);
            let whole = from.split_first_chunk().and_then(|(head, from)| {
                let head = Head::read(head)?;
                let sealed = from.get(..head.sealed)?;
                head.run(self.window, sealed.to_vec()).ok()
            });
            if whole.is_some() {
                self.at = self.at.saturating_add(at as u64);
                self.file.seek(SeekFrom::Start(self.at))?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether what is left can be one record that was cut short: no write made the file longer than its record.
    fn is_one_record(&mut self) -> io::Result<bool> {
        let left = self.length.saturating_sub(self.at);
        let head = self.rest(HEAD_SIZE as u64)?;
        let head = head.first_chunk().and_then(Head::read);
        Ok(left <= head.map_or(RECORD_MAX, |head| head.size()))
    }

    /// What comes from here on, up to so many bytes.
    fn rest(&mut self, limit: u64) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        self.file.seek(SeekFrom::Start(self.at))?;
        self.file.by_ref().take(limit).read_to_end(&mut rest)?;
        Ok(rest)
    }
}

/// What a record begins with.
struct Head {
    first: u64,
    count: u32,
    /// Bytes of what is sealed.
    sealed: usize,
}

impl Head {
    fn read(bytes: &[u8; HEAD_SIZE]) -> Option<Self> {
        let (first, count) = bytes.split_first_chunk::<8>()?;
        let count = u32::from_be_bytes(count.try_into().ok()?);
        let shares = usize::try_from(count).ok()?;
        let sealed = SEAL_SIZE.checked_add(shares.checked_mul(SHARE_RECORD_SIZE)?)?;
        (1..=SHARES_MAX).contains(&shares).then_some(Self {
            first: u64::from_be_bytes(*first),
            count,
            sealed,
        })
    }

    /// Bytes of the whole record.
    fn size(&self) -> u64 {
        (HEAD_SIZE as u64).saturating_add(self.sealed as u64)
    }

    fn run(&self, window: WindowSeq, sealed: Vec<u8>) -> Result<Run, RecordError> {
        let (first, count) = (self.first, u64::from(self.count));
        unseal(&Key::Share(window, first), &sealed)?;
        Ok(Run {
            first,
            count,
            sealed,
        })
    }
}
