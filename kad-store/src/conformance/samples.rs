//! The records that the suite stores: signed by fixed keys, so that every run is the same.

use kad_core::{
    Announcement, Duration, Key, Keypair, MutableVersion, NetworkId, Parameters, Record, Rules, UnixTime,
};

/// The time at which the samples are made.
pub(super) const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

/// When records are due that nobody gave another time.
pub(super) const DUE: UnixTime = UnixTime::from_secs(1_800_003_600);

/// The end of records that nobody gave another one.
pub(super) const END: UnixTime = UnixTime::from_secs(1_800_086_400);

/// Makes records of a network of its own.
pub(super) struct Samples {
    rules: Rules,
    owner: Keypair,
}

/// `secs` after [`NOW`].
pub(super) fn at(secs: u64) -> UnixTime {
    NOW + Duration::from_secs(secs)
}

/// A key that sorts by the number.
pub(super) const fn key(number: u64) -> Key {
    Key::from_limbs([number, 0, 0, 0])
}

impl Samples {
    pub(super) fn new() -> Self {
        let parameters = Parameters::default();
        let network = NetworkId::new("kad-store conformance", &parameters);
        Self {
            rules: Rules::new(network, &parameters),
            owner: Keypair::from_secret(&[7; 32]),
        }
    }

    /// The longest life of a record.
    pub(super) const fn longest(&self) -> Duration {
        self.rules.max_lifetime
    }

    pub(super) const fn rules(&self) -> &Rules {
        &self.rules
    }

    pub(super) fn immutable(&self, value: &[u8], expiry: UnixTime) -> Record {
        Record::immutable(value, expiry, &self.rules, NOW).expect("a sample keeps the rules")
    }

    /// An immutable record that is told from others by its number.
    pub(super) fn numbered(&self, number: u64) -> Record {
        self.immutable(&number.to_be_bytes(), END)
    }

    /// A version of the mutable record under a salt; `None` deletes.
    pub(super) fn mutable(&self, salt: &[u8], seq: u64, value: Option<&[u8]>) -> Record {
        self.mutable_until(salt, seq, value, NOW + self.longest())
    }

    pub(super) fn mutable_until(
        &self,
        salt: &[u8],
        seq: u64,
        value: Option<&[u8]>,
        expiry: UnixTime,
    ) -> Record {
        let version = MutableVersion {
            salt,
            seq,
            issued: NOW,
            expiry,
            value,
        };
        Record::mutable(&self.owner, &version, &self.rules, NOW).expect("a sample keeps the rules")
    }

    /// What the provider of this number says of a key, so many seconds after [`NOW`]; `None` withdraws.
    pub(super) fn provider(&self, number: u8, key: Key, issued: u64, payload: Option<&[u8]>) -> Record {
        let issued = at(issued);
        let announcement = Announcement {
            key,
            issued,
            expiry: issued + self.longest(),
            payload,
        };
        let provider = Keypair::from_secret(&[number; 32]);
        Record::provider(&provider, &announcement, &self.rules, NOW).expect("a sample keeps the rules")
    }
}
