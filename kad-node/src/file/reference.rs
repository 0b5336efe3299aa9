//! What names a file: its key, and the secret that opens it if it is sealed.

use std::str::FromStr;

use kad_core::Key;
use zeroize::Zeroizing;

use super::seal::Secret;

/// Between key and secret. Browsers never send what follows it, people know it from links, and no shell minds it within
/// a word.
const MARK: char = '#';

/// The key of a file and, if the file is sealed, the secret that opens it: `KEY` or `KEY#SECRET`, 64 hexadecimal digits
/// each.
///
/// `Debug` does not print the secret, and there is no `Display`, so that it gets into no log by mistake.
///
/// ```
/// use kad_node::file::Reference;
///
/// let text = format!("{}#{}", "0a".repeat(32), "5e".repeat(32));
/// let reference: Reference = text.parse()?;
/// assert_eq!(reference.key.to_string(), "0a".repeat(32));
/// assert_eq!(*reference.reveal(), text);
/// assert!(!format!("{reference:?}").contains("5e5e"));
/// # Ok::<(), kad_node::file::ReferenceError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reference {
    /// The key of the file: the hash of its root.
    pub key: Key,
    /// What opens it; `None` if it is not sealed.
    pub secret: Option<Secret>,
}

/// Why a text is no reference. It does not repeat the text, which may be most of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// What should be the key is not.
    #[error("64 hexadecimal digits name a file, as 'kad-node put' prints")]
    Key,
    /// What should be the secret is not.
    #[error("behind the # of a sealed file's name are 64 hexadecimal digits, as 'kad-node put' prints")]
    Secret,
}

impl Reference {
    /// The text that names the file, secret included: whoever reads it can read the file.
    #[must_use]
    pub fn reveal(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(129));
        text.push_str(&self.key.to_string());
        if let Some(secret) = &self.secret {
            let digits = Zeroizing::new(Key::from_bytes(*secret.bytes()).to_string());
            text.push(MARK);
            text.push_str(&digits);
        }
        text
    }
}

impl From<Key> for Reference {
    fn from(key: Key) -> Self {
        Self { key, secret: None }
    }
}

impl From<&Self> for Reference {
    fn from(reference: &Self) -> Self {
        reference.clone()
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let (key, secret) = match text.split_once(MARK) {
            Some((key, secret)) => (key, Some(secret)),
            None => (text, None),
        };
        let key = key.parse().map_err(|_| ReferenceError::Key)?;
        let secret = secret.map(|digits| {
            let secret: Key = digits.parse().map_err(|_| ReferenceError::Secret)?;
            Ok(Secret::from_bytes(Zeroizing::new(secret.to_bytes())))
        });
        Ok(Self {
            key,
            secret: secret.transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_revealed_is_read_back() {
        for secret in [None, Some(Secret::generate().unwrap())] {
            let key = Key::from_bytes([0xab; 32]);
            let reference = Reference { key, secret };
            let text = reference.reveal();
            assert_eq!(text.len(), if reference.secret.is_some() { 129 } else { 64 });
            assert_eq!(text.parse(), Ok(reference));
        }
    }

    #[test]
    fn what_is_no_reference_is_refused_by_the_part_that_is_wrong() {
        let good = "ab".repeat(32);
        for (text, why) in [
            (String::new(), ReferenceError::Key),
            ("#".to_owned(), ReferenceError::Key),
            (format!("#{good}"), ReferenceError::Key),
            (format!("{good}0"), ReferenceError::Key),
            (format!("{good}#"), ReferenceError::Secret),
            (format!("{good}#{good}0"), ReferenceError::Secret),
            (format!("{good}#{good}#{good}"), ReferenceError::Secret),
            (format!("{good}#xyz"), ReferenceError::Secret),
        ] {
            assert_eq!(text.parse::<Reference>(), Err(why), "{text}");
            assert!(!why.to_string().contains("xyz"));
        }
    }
}
