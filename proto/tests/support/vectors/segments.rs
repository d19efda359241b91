//! segments.json: four windows as files, and what is refused of them.

use serde::{Deserialize, Serialize};
use tutti_proto::audit::Auditor;
use tutti_proto::segment::{FileId, Segment};
use tutti_proto::wire::{FromWire, ToWire};

use super::super::archive::Archive;
use super::super::fourth_window;
use super::patch::Patch;
use super::{Vector, false_segments, refused};

#[derive(Serialize, Deserialize)]
pub struct File {
    /// Of windows 1 to 4.
    files: Vec<Published>,
    /// Files that say the same and have another name.
    renamed: Vec<Renamed>,
    /// Files that are right, too.
    taken: Vec<Case>,
    refused: Vec<Refused>,
}

#[derive(Serialize, Deserialize)]
struct Published {
    what: String,
    cid: String,
    bytes: String,
}

#[derive(Serialize, Deserialize)]
struct Renamed {
    what: String,
    /// Which of the files is changed, from 0.
    file: usize,
    changes: Patch,
    cid: String,
}

#[derive(Serialize, Deserialize)]
struct Case {
    what: String,
    /// How many of the files are checked before it.
    after: usize,
    /// Which is changed, from 0.
    file: usize,
    changes: Patch,
    cid: String,
}

#[derive(Serialize, Deserialize)]
struct Refused {
    #[serde(flatten)]
    case: Case,
    refused: String,
}

/// A file that is changed: what of it, after how many, which, and its bytes.
pub struct Changed {
    pub what: &'static str,
    pub after: usize,
    pub file: usize,
    pub bytes: Vec<u8>,
}

/// Checks files in their order, then one more.
fn audit(files: &[Vec<u8>], then: &[u8]) -> Result<(), String> {
    let first = Segment::decode(&files[0]).unwrap();
    let mut auditor = Auditor::new(first.pool);
    for file in &files[1..] {
        auditor.segment(&Segment::decode(file).unwrap()).unwrap();
    }
    let segment = Segment::decode(then).map_err(|error| refused::message(&error))?;
    let checked = auditor.segment(&segment);
    checked.map(|_| ()).map_err(|error| refused::audit(&error))
}

/// The first file twice, whose pool is checked; and the files before.
fn before(files: &[Vec<u8>], after: usize) -> Vec<Vec<u8>> {
    let pool = files[..1].iter();
    pool.chain(&files[..after]).cloned().collect()
}

impl Case {
    fn of(changed: &Changed, files: &[Vec<u8>]) -> Self {
        Self {
            what: changed.what.into(),
            after: changed.after,
            file: changed.file,
            changes: Patch::between(&files[changed.file], &changed.bytes),
            cid: FileId::of(&changed.bytes).to_string(),
        }
    }

    fn audit(&self, files: &[Vec<u8>]) -> Result<(), String> {
        let changed = self.changes.apply(&files[self.file]);
        assert_eq!(FileId::of(&changed).to_string(), self.cid);
        audit(&before(files, self.after), &changed)
    }
}

const WHAT: [&str; 4] = [
    "window 1: four outputs come; no share, so no terms",
    "window 2: four shares of a round, the last a block, which is booked; an output expires, one is added \
     and one removed",
    "window 3: the block is lost; no share, but the terms of its round",
    "window 4: a direct round, proposed between two changes of the payee set, and a signed one, which is hashed \
     on two blocks: two shares of the first, one of the second; a block of each is booked, the second's is no \
     share and on its other block",
];

fn renamed(files: &[Vec<u8>]) -> Vec<Renamed> {
    let file = &files[1];
    let long = [&file[..1], &[0x82, 0x00], &file[2..]].concat();
    let unknown = [&file[..], &[0x78, 0x01]].concat();
    let moved = [&file[2..], &file[..2]].concat();
    let wide = [&file[..1], &[0x82, 0x80, 0x80, 0x80, 0x10], &file[2..]].concat();
    // Key and length of the pool, then its two fields with keys and lengths.
    let (network, coordinator, rest) = (&file[4..10], &file[10..44], &file[44..]);
    let [network, coordinator] =
        [network, coordinator].map(|field| [&[0x12, field.len() as u8], field].concat());
    let halves = [&file[..2], &network[..], &coordinator[..], rest].concat();
    [
        ("the format, 2, in two bytes", long),
        ("a field 15 that there is not", unknown),
        ("the first field last", moved),
        ("the format, 2, with a bit above the 32 that it has", wide),
        ("the pool in two messages, with a field each", halves),
    ]
    .map(|(what, bytes)| Renamed {
        what: what.into(),
        file: 1,
        changes: Patch::between(file, &bytes),
        cid: FileId::of(&bytes).to_string(),
    })
    .into()
}

impl Vector for File {
    fn generate() -> Self {
        let mut archive = Archive::new();
        fourth_window::close(&mut archive);
        let files: Vec<Vec<u8>> = archive.segments.iter().map(ToWire::encode).collect();
        let published = files.iter().zip(WHAT).map(|(bytes, what)| Published {
            what: what.into(),
            cid: FileId::of(bytes).to_string(),
            bytes: hex::encode(bytes),
        });
        let refused = |changed: Changed| {
            let case = Case::of(&changed, &files);
            let refused = case.audit(&files).expect_err(changed.what);
            Refused { case, refused }
        };
        Self {
            files: published.collect(),
            renamed: renamed(&files),
            taken: false_segments::taken(&archive)
                .iter()
                .map(|changed| Case::of(changed, &files))
                .collect(),
            refused: false_segments::refused(&archive)
                .into_iter()
                .map(refused)
                .collect(),
        }
    }

    fn check(&self) {
        let files = self.files.iter().map(|file| hex::decode(&file.bytes));
        let files: Vec<Vec<u8>> = files.collect::<Result<_, _>>().unwrap();
        for (place, file) in files.iter().enumerate() {
            assert_eq!(FileId::of(file).to_string(), self.files[place].cid);
            let segment = Segment::decode(file).unwrap();
            assert_eq!(segment.encode(), *file, "file {place} is not canonical");
            assert_eq!(audit(&before(&files, place), file), Ok(()));
        }
        for other in &self.renamed {
            let bytes = other.changes.apply(&files[other.file]);
            assert_eq!(FileId::of(&bytes).to_string(), other.cid);
            let segment = Segment::decode(&bytes).unwrap();
            assert_eq!(segment.encode(), files[other.file], "{}", other.what);
        }
        for case in &self.taken {
            assert_eq!(case.audit(&files), Ok(()), "{}", case.what);
        }
        for Refused { case, refused } in &self.refused {
            assert_eq!(case.audit(&files), Err(refused.clone()), "{}", case.what);
        }
    }
}
