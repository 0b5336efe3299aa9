//! The key file: 64 hexadecimal digits, readable by its owner only.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use kad_core::{Key, Keypair};
use zeroize::Zeroizing;

/// Why a key file could not be read or written. Nothing was overwritten.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// It cannot be read.
    #[error("the key file {path} cannot be read: {source}", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// It is not what we write.
    #[error("{path} is not a key file (64 hexadecimal digits were expected); it was left as it is", path = .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// It is there already.
    #[error("{path} exists already; a key is never overwritten", path = .path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be written.
    #[error("the key file {path} cannot be written: {source}", path = .path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes: {0}")]
    Entropy(io::Error),
}

/// Makes a key from the operating system's entropy.
///
/// With `puzzle_bits`, keys are made until the id has done that much work: 2^bits tries of about 12 µs each.
///
/// # Errors
/// [`KeyFileError::Entropy`].
pub fn generate(puzzle_bits: u32) -> Result<Keypair, KeyFileError> {
    loop {
        let mut secret = Zeroizing::new([0; 32]);
        getrandom::fill(secret.as_mut())
            .map_err(|e| KeyFileError::Entropy(io::Error::other(e.to_string())))?;
        let keypair = Keypair::from_secret(&secret);
        if keypair.node_id().puzzle_bits() >= puzzle_bits {
            return Ok(keypair);
        }
    }
}

/// Reads a key file.
///
/// # Errors
/// [`KeyFileError::Unreadable`] or [`KeyFileError::Malformed`].
pub fn read(path: &Path) -> Result<Keypair, KeyFileError> {
    /// 64 digits, and blanks that an editor may have added.
    const MAX_BYTES: u64 = 128;
    let unreadable = |source| KeyFileError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let malformed = || KeyFileError::Malformed {
        path: path.to_owned(),
    };
    if fs::metadata(path).map_err(unreadable)?.len() > MAX_BYTES {
        return Err(malformed());
    }
    let bytes = Zeroizing::new(fs::read(path).map_err(unreadable)?);
    let text = std::str::from_utf8(&bytes).map_err(|_| malformed())?;
    let secret: Key = text.trim().parse().map_err(|_| malformed())?;
    Ok(Keypair::from_secret(&Zeroizing::new(secret.to_bytes())))
}

/// Writes a new key file with mode 0600, whole or not at all; one that exists is never touched.
///
/// # Errors
/// [`KeyFileError::Exists`] or [`KeyFileError::Unwritable`].
pub fn write_new(path: &Path, keypair: &Keypair) -> Result<(), KeyFileError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => KeyFileError::Exists {
            path: path.to_owned(),
        },
        _ => KeyFileError::Unwritable {
            path: path.to_owned(),
            source,
        },
    };
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).map_err(failed)?;
    let text = Zeroizing::new(format!("{}\n", Key::from_bytes(keypair.secret())));
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    written.map_err(|error| {
        // Half a key is worse than none; that the removal may fail too changes nothing about the error.
        let _ = fs::remove_file(path);
        failed(error)
    })
}

/// The key in this file, which is made if there is none.
///
/// # Errors
/// As for [`read`] and [`write_new`].
pub fn read_or_create(path: &Path, puzzle_bits: u32) -> Result<Keypair, KeyFileError> {
    if path.try_exists().unwrap_or(true) {
        return read(path);
    }
    let keypair = generate(puzzle_bits)?;
    write_new(path, &keypair)?;
    Ok(keypair)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_comes_back_and_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let made = read_or_create(&path, 0).unwrap();
        assert_eq!(read_or_create(&path, 0).unwrap().public(), made.public());
        assert!(matches!(
            write_new(&path, &generate(0).unwrap()),
            Err(KeyFileError::Exists { .. })
        ));
        assert_eq!(read(&path).unwrap().public(), made.public());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn what_is_no_key_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in [
            ("short", b"abc".as_slice()),
            ("binary", &[255; 64]),
            ("long", &[b'a'; 1000]),
        ] {
            let path = dir.path().join(name);
            fs::write(&path, content).unwrap();
            assert!(
                matches!(read(&path), Err(KeyFileError::Malformed { .. })),
                "{name}"
            );
            assert_eq!(fs::read(&path).unwrap(), content);
        }
        assert!(matches!(
            read(&dir.path().join("none")),
            Err(KeyFileError::Unreadable { .. })
        ));
    }

    #[test]
    fn a_puzzle_is_solved_when_asked_for() {
        assert!(generate(6).unwrap().node_id().puzzle_bits() >= 6);
    }
}
