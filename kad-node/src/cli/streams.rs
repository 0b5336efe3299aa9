//! FILE or `-`: what is read, and where what is found is written to.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use tempfile::NamedTempFile;
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::reply::Failure;

/// What is to be stored: a file, or standard input.
pub(crate) struct Source {
    name: String,
    reader: Pin<Box<dyn AsyncRead + Send>>,
    /// Its size, for a file.
    size: Option<u64>,
}

impl Source {
    /// Opens it, so that a mistake is told before anybody is asked anything.
    pub(crate) async fn open(path: &Path) -> Result<Self, Failure> {
        if path == Path::new("-") {
            return Ok(Self {
                name: "standard input".to_owned(),
                reader: Box::pin(tokio::io::stdin()),
                size: None,
            });
        }
        let name = path.display().to_string();
        let failed = |error: io::Error| unreadable(&name, &error);
        let file = File::open(path).await.map_err(failed)?;
        let about = file.metadata().await.map_err(failed)?;
        if about.is_dir() {
            return Err(Failure::usage(format!(
                "{name} is a directory; give a file, or - for standard input"
            )));
        }
        Ok(Self {
            size: about.is_file().then_some(about.len()),
            reader: Box::pin(file),
            name,
        })
    }

    pub(crate) fn size(&self) -> Option<u64> {
        self.size
    }

    pub(crate) fn reader(&mut self) -> &mut (dyn AsyncRead + Send + Unpin) {
        &mut self.reader
    }

    /// What to say if it cannot be read to its end.
    pub(crate) fn failed(&self, error: &io::Error) -> Failure {
        unreadable(&self.name, error)
    }

    /// Reads everything, unless it is more than `most` bytes.
    pub(crate) async fn read_all(&mut self, most: usize) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        let mut bounded = (&mut self.reader).take(most as u64 + 1);
        let read = bounded.read_to_end(&mut bytes).await;
        read.map_err(|error| self.failed(&error))?;
        match bytes.len() > most {
            true => Err(Failure::usage(format!(
                "{} has more than the {most} bytes that can be taken here",
                self.name
            ))),
            false => Ok(bytes),
        }
    }
}

fn unreadable(name: &str, error: &io::Error) -> Failure {
    Failure::usage(format!(
        "{name} cannot be read: {error}; give a file that can, or - for standard input"
    ))
}

/// Where what is found goes. A file appears, or is replaced, only once it is whole.
pub(crate) enum Sink {
    /// Standard output.
    Stdout(tokio::io::Stdout),
    /// A file that is made beside its place.
    Beside {
        /// What is written.
        file: File,
        /// Removed if it is never kept.
        temporary: NamedTempFile,
        /// Its place.
        place: Place,
    },
    /// A pipe or a device, which nothing can be put in place of.
    Direct {
        /// What is written.
        file: File,
        /// Its name.
        place: Place,
    },
}

/// Where a file goes, and which flag said so.
pub(crate) struct Place {
    path: PathBuf,
    flag: &'static str,
}

impl Sink {
    /// Opens it, so that a mistake is told before anybody is asked anything. Without a path, standard output.
    pub(crate) async fn open(path: Option<&Path>) -> Result<Self, Failure> {
        match path {
            Some(path) => Self::of_file(path, "-o"),
            None => Ok(Self::Stdout(tokio::io::stdout())),
        }
    }

    /// Opens a file that a flag names, so that a mistake is told before anybody is asked anything.
    pub(crate) fn of_file(path: &Path, flag: &'static str) -> Result<Self, Failure> {
        let mut place = Place {
            path: path.to_owned(),
            flag,
        };
        let failed = |error: io::Error| place.unwritable(&error);
        let found = std::fs::metadata(path).ok();
        if found.as_ref().is_some_and(std::fs::Metadata::is_dir) {
            return Err(failed(io::Error::other("it is a directory")));
        }
        if found.is_some_and(|found| !found.is_file()) {
            let file = std::fs::OpenOptions::new()
                .write(true)
                .open(path)
                .map_err(failed)?;
            return Ok(Self::Direct {
                file: File::from_std(file),
                place,
            });
        }
        // A link stays a link to what is replaced.
        place.path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let folder = place
            .path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let temporary = beside(folder.unwrap_or_else(|| Path::new("."))).map_err(|e| place.unwritable(&e))?;
        let file = temporary.reopen().map_err(|e| place.unwritable(&e))?;
        Ok(Self::Beside {
            file: File::from_std(file),
            temporary,
            place,
        })
    }

    pub(crate) fn writer(&mut self) -> &mut (dyn AsyncWrite + Send + Unpin) {
        match self {
            Self::Stdout(out) => out,
            Self::Beside { file, .. } | Self::Direct { file, .. } => file,
        }
    }

    /// Writes everything that there is.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let written = self.writer().write_all(bytes).await;
        written.map_err(|error| self.failed(&error))
    }

    /// Puts what was written in its place, on the disk.
    pub(crate) async fn keep(mut self) -> Result<(), Failure> {
        let flushed = self.writer().flush().await;
        flushed.map_err(|error| self.failed(&error))?;
        match self {
            Self::Stdout(_) | Self::Direct { .. } => Ok(()),
            Self::Beside {
                file,
                temporary,
                place,
            } => {
                let synced = file.sync_all().await;
                synced.map_err(|error| place.unwritable(&error))?;
                temporary
                    .persist(&place.path)
                    .map_err(|failed| place.unwritable(&failed.error))?;
                Ok(())
            }
        }
    }

    /// What to say if it cannot be written.
    pub(crate) fn failed(&self, error: &io::Error) -> Failure {
        match self {
            Self::Stdout(_) if error.kind() == io::ErrorKind::BrokenPipe => Failure::unwanted(),
            Self::Stdout(_) => Failure::usage(format!("standard output cannot be written: {error}")),
            Self::Beside { place, .. } | Self::Direct { place, .. } => place.unwritable(error),
        }
    }
}

/// With the permissions that any new file has.
fn beside(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".kad-node-");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

impl Place {
    fn unwritable(&self, error: &io::Error) -> Failure {
        Failure::usage(format!(
            "{} cannot be written: {error}; give another name with {}",
            self.path.display(),
            self.flag
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn a_file_is_replaced_once_it_is_whole_and_not_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        fs::write(&path, "old").unwrap();
        let mut abandoned = Sink::open(Some(&path)).await.unwrap();
        abandoned.write(b"half").await.unwrap();
        drop(abandoned);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        let mut kept = Sink::open(Some(&path)).await.unwrap();
        kept.write(b"new").await.unwrap();
        kept.keep().await.unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            1,
            "nothing else is left"
        );
    }

    #[tokio::test]
    async fn devices_are_written_to_and_directories_refused() {
        let mut null = Sink::open(Some(Path::new("/dev/null"))).await.unwrap();
        null.write(b"gone").await.unwrap();
        null.keep().await.unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
        let dir = tempfile::tempdir().unwrap();
        assert!(Sink::open(Some(dir.path())).await.is_err());
        assert!(Sink::open(Some(&dir.path().join("none/out"))).await.is_err());
    }

    #[tokio::test]
    async fn what_is_too_large_is_refused_and_what_fits_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("in");
        fs::write(&path, [7; 10]).unwrap();
        assert_eq!(
            Source::open(&path).await.unwrap().read_all(10).await.unwrap(),
            [7; 10]
        );
        assert!(Source::open(&path).await.unwrap().read_all(9).await.is_err());
        assert!(Source::open(dir.path()).await.is_err());
    }
}
