//! Places that are reused, and handles that know when theirs was.
//!
//! Most nodes are idle most of the time, and what is under way at once has no small bound, so a slab that is empty owns
//! no memory.

use alloc::vec::Vec;

/// Values at stable places. A handle names a place and the generation of its use, so a late answer never meets the
/// wrong value.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
    /// The generation of the next value. One count for all places, so that it outlives them.
    next: u32,
}

#[derive(Debug)]
struct Place<T> {
    generation: u32,
    value: Option<T>,
}

/// Names a value of a [`Slab`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Handle {
    pub(crate) place: u32,
    generation: u32,
}

impl Handle {
    pub(crate) const fn to_u64(self) -> u64 {
        (self.generation as u64) << 32 | self.place as u64
    }

    pub(crate) const fn from_u64(id: u64) -> Self {
        Self {
            place: id as u32,
            generation: (id >> 32) as u32,
        }
    }
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
            next: 0,
        }
    }

    pub(crate) const fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(crate) fn insert(&mut self, value: T) -> Handle {
        let generation = self.next;
        self.next = generation.wrapping_add(1);
        let entry = Place {
            generation,
            value: Some(value),
        };
        let place = match self.free.pop() {
            Some(place) => {
                self.places[place as usize] = entry;
                place
            }
            None => {
                if self.places.len() == self.places.capacity() {
                    // A Vec begins with four, and a query alone takes some hundred bytes. Most nodes have one.
                    self.places.reserve_exact((self.places.len() / 2).max(1));
                }
                self.places.push(entry);
                (self.places.len() - 1) as u32
            }
        };
        Handle { place, generation }
    }

    pub(crate) fn get_mut(&mut self, handle: Handle) -> Option<&mut T> {
        let place = self.places.get_mut(handle.place as usize)?;
        if place.generation == handle.generation {
            place.value.as_mut()
        } else {
            None
        }
    }

    pub(crate) fn remove(&mut self, handle: Handle) -> Option<T> {
        let place = self.places.get_mut(handle.place as usize)?;
        if place.generation != handle.generation {
            return None;
        }
        let value = place.value.take()?;
        if self.len() == 1 {
            (self.places, self.free) = (Vec::new(), Vec::new());
        } else {
            self.free.push(handle.place);
        }
        Some(value)
    }

    /// The handle of whatever is at a place now.
    pub(crate) fn handle_at(&self, place: u32) -> Option<Handle> {
        let entry = self.places.get(place as usize)?;
        entry.value.as_ref().map(|_| Handle {
            place,
            generation: entry.generation,
        })
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.places.iter_mut().filter_map(|entry| entry.value.as_mut())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Handle, &T)> {
        self.places.iter().enumerate().filter_map(|(place, entry)| {
            let handle = Handle {
                place: place as u32,
                generation: entry.generation,
            };
            entry.value.as_ref().map(|value| (handle, value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_does_not_outlive_its_value() {
        let mut slab = Slab::new();
        let first = slab.insert('a');
        assert_eq!(slab.remove(first), Some('a'));
        let second = slab.insert('b');
        assert_eq!(second.place, first.place);
        assert_eq!(slab.get_mut(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(Handle::from_u64(second.to_u64()), second);
        assert_eq!(slab.get_mut(second), Some(&mut 'b'));
        assert_eq!(slab.len(), 1);
    }

    #[test]
    fn an_empty_slab_owns_no_memory_and_still_knows_old_handles() {
        let mut slab = Slab::new();
        let old: Vec<_> = (0..40).map(|n| slab.insert(n)).collect();
        for (n, &handle) in old.iter().enumerate() {
            assert_eq!(slab.len(), 40 - n);
            assert_eq!(slab.remove(handle), Some(n));
        }
        assert_eq!(
            (slab.len(), slab.places.capacity(), slab.free.capacity()),
            (0, 0, 0)
        );
        let new: Vec<_> = (0..40).map(|n| slab.insert(100 + n)).collect();
        for &handle in &old {
            assert_eq!(slab.get_mut(handle), None);
            assert_eq!(slab.get_mut(handle), None);
            assert_eq!(slab.remove(handle), None);
        }
        assert!(
            new.iter()
                .enumerate()
                .all(|(n, &handle)| slab.get_mut(handle) == Some(&mut (100 + n)))
        );
    }
}
