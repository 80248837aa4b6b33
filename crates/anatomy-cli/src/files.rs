//! The files that are meant by PATH arguments.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use anatomy::Error;

use crate::model::local;

/// A file, or why there is none.
pub type Found = Result<PathBuf, Error>;

/// The files named, and those below the directories named, in name order.
pub fn files(paths: &[PathBuf]) -> Vec<Found> {
    let mut found = Vec::new();
    for path in paths {
        match local(path) {
            Ok(path) if path.is_dir() => found.extend(walk(path)),
            Ok(path) => found.push(Ok(path.to_path_buf())),
            Err(error) => found.push(Err(error)),
        }
    }
    found
}

/// The files below a directory, in name order.
///
/// Linked directories come last, so that each directory is walked once and, where it has one, under
/// its own name: a loop of links ends, and a lattice of them does not grow without bounds.
fn walk(root: &Path) -> Vec<Found> {
    let mut found: Vec<(PathBuf, Option<Error>)> = Vec::new();
    let fail = |path: &Path, error: &std::io::Error, found: &mut Vec<_>| {
        let error = Error::io(path.display().to_string(), error);
        found.push((path.to_path_buf(), Some(error)));
    };
    let mut folders = vec![root.to_path_buf()];
    let mut linked = BTreeSet::new();
    let mut seen = HashSet::new();
    while let Some(folder) = folders.pop().or_else(|| linked.pop_first()) {
        let entries =
            folder.canonicalize().and_then(|real| seen.insert(real).then(|| fs::read_dir(&folder)).transpose());
        let entries = match entries {
            Ok(Some(entries)) => entries,
            Ok(None) => continue,
            Err(error) => {
                fail(&folder, &error, &mut found);
                continue;
            }
        };
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    fail(&folder, &error, &mut found);
                    break;
                }
            };
            let path = entry.path();
            match (entry.file_type().is_ok_and(|kind| kind.is_symlink()), fs::metadata(&path)) {
                (false, Ok(metadata)) if metadata.is_dir() => folders.push(path),
                (true, Ok(metadata)) if metadata.is_dir() => _ = linked.insert(path),
                (_, Ok(metadata)) if metadata.is_file() => found.push((path, None)),
                (_, Ok(_)) => {}
                (_, Err(error)) => fail(&path, &error, &mut found),
            }
        }
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    found.into_iter().map(|(path, error)| error.map_or(Ok(path), Err)).collect()
}
