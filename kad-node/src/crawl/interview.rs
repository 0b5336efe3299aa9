//! One node, asked for its contacts bucket by bucket.
//!
//! FIND_NODE gives the contacts nearest to a point. The point that differs from the node's own id in bit `i` alone lies
//! in its bucket `i`, so the answer begins with that bucket, goes on with the contacts that share more bits with the
//! node, and only then comes to those that share fewer. An answer that reaches those has told everything that shares
//! more, and is the last that is asked for. An answer without news proves less: behind an empty bucket there may be
//! full ones.

use std::collections::BTreeSet;

use kad_core::{Contact, Key, NodeId};

/// Questions to one node. Where ids are hashes, one with k contacts in a bucket has its last one at about log2 of the
/// members divided by k, which is 16 for a million of them; whoever has more to tell makes it up.
pub(crate) const MAX_QUESTIONS: u32 = 40;

/// What is known of one node's table so far.
#[derive(Debug)]
pub(crate) struct Interview<A> {
    pub(crate) contact: Contact<A>,
    /// The bucket that the next question is for.
    bucket: u32,
    /// Ids that it has told, at most [`MAX_QUESTIONS`] answers full.
    told: BTreeSet<NodeId>,
    /// Questions in a row that were not answered.
    pub(super) unanswered: u8,
    /// Whether nothing else can be asked, so that a question which cannot be sent now never will be.
    pub(super) alone: bool,
}

/// What an answer brought.
#[derive(Debug)]
pub(crate) struct News<A> {
    /// Contacts that this node had not told before, each with the bucket of the teller's table in which it lies.
    pub(crate) contacts: Vec<(u8, Contact<A>)>,
    /// Whether the node has told all that it will.
    pub(crate) complete: bool,
}

impl<A> Interview<A> {
    pub(crate) const fn new(contact: Contact<A>) -> Self {
        Self {
            contact,
            bucket: 0,
            told: BTreeSet::new(),
            unanswered: 0,
            alone: false,
        }
    }

    /// The point to ask for: the node's own id with one bit flipped.
    pub(crate) fn target(&self) -> Key {
        let mut limbs = self.contact.id.to_limbs();
        limbs[(self.bucket / 64) as usize] ^= 1 << (63 - self.bucket % 64);
        Key::from_limbs(limbs)
    }

    /// Takes an answer, of at most [`MAX_CLOSER`](kad_core::MAX_CLOSER) contacts. What a node says of itself is no
    /// news.
    pub(crate) fn on_told(&mut self, closer: Vec<Contact<A>>) -> News<A> {
        self.unanswered = 0;
        // An empty answer to a question for the nearest contacts tells of an empty table.
        let mut complete = closer.is_empty();
        let mut contacts = Vec::new();
        for contact in closer {
            let shared = contact.id.distance(self.contact.id.to_key()).leading_zeros();
            let Ok(bucket) = u8::try_from(shared) else {
                continue; // It shares all bits: the node itself.
            };
            complete |= shared < self.bucket;
            if self.told.insert(contact.id) {
                contacts.push((bucket, contact));
            }
        }
        self.bucket += 1;
        complete |= self.bucket >= MAX_QUESTIONS;
        News { contacts, complete }
    }
}

#[cfg(test)]
mod tests {
    use kad_core::Instant;
    use kad_core::table::{ClosestScratch, RoutingTable, TableConfig};
    use proptest::prelude::*;

    use super::*;

    /// Asks a table until its interview is complete; the ids that were told, and the questions it took.
    fn interviewed(table: &RoutingTable<u32>, k: usize) -> (BTreeSet<NodeId>, u32) {
        let mut interview = Interview::new(Contact::new(table.local(), 0));
        let mut scratch = ClosestScratch::default();
        let mut told = BTreeSet::new();
        for questions in 1.. {
            let closest = table.closest(interview.target(), k, &mut scratch);
            let news = interview.on_told(closest.map(|entry| *entry.contact).collect());
            for (bucket, contact) in news.contacts {
                let shared = contact.id.distance(table.local().to_key()).leading_zeros();
                assert_eq!(u32::from(bucket), shared);
                assert!(told.insert(contact.id), "told twice");
            }
            if news.complete {
                return (told, questions);
            }
        }
        unreachable!("questions are numbered without end");
    }

    proptest! {
        #[test]
        fn an_honest_table_is_told_whole(
            local in any::<[u8; 32]>(),
            ids in prop::collection::vec(any::<[u8; 32]>(), 0..400),
            // Few bits of the ids, so that there are gaps between the buckets.
            shift in 0..8u32,
            k in 1..24usize,
        ) {
            let mut table = RoutingTable::new(NodeId::from_bytes(local), TableConfig::new(k, 0));
            for id in ids {
                let mut limbs = NodeId::from_bytes(id).to_limbs();
                limbs[0] = table.local().to_limbs()[0] ^ limbs[0] & (limbs[1] >> shift) & (limbs[2] >> shift);
                let _ = table.answered(Instant::ZERO, &Contact::new(NodeId::from_limbs(limbs), 1), None);
            }
            let buckets = table.deepest().map_or(0, |deepest| deepest + 1);
            prop_assume!(buckets < MAX_QUESTIONS);
            let all: BTreeSet<NodeId> = table.contacts().map(|entry| entry.contact.id).collect();
            let (told, questions) = interviewed(&table, k);
            prop_assert_eq!(told, all);
            prop_assert!(questions <= buckets + 1, "{} questions for {} buckets", questions, buckets);
        }

        #[test]
        fn whatever_is_answered_an_interview_ends(answers in prop::collection::vec(any::<[u8; 32]>(), 50..60)) {
            let mut interview = Interview::new(Contact::new(NodeId::default(), 0));
            let mut answers = answers.into_iter();
            for question in 1..=MAX_QUESTIONS {
                // A new id in every answer, as near as the liar likes.
                let mut id = answers.next().expect("more answers than questions");
                id[..5].fill(0);
                let news = interview.on_told(vec![Contact::new(NodeId::from_bytes(id), 1)]);
                prop_assert_eq!(news.complete, question == MAX_QUESTIONS);
            }
        }
    }

    #[test]
    fn a_node_that_tells_nobody_is_asked_once_and_what_it_tells_of_itself_is_no_news() {
        let itself = Contact::new(NodeId::from_bytes([7; 32]), 1);
        let news = Interview::new(itself).on_told(Vec::new());
        assert!(news.complete && news.contacts.is_empty());
        let news = Interview::new(itself).on_told(vec![itself; 32]);
        assert!(!news.complete && news.contacts.is_empty());
    }
}
