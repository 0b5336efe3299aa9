//! Taking out of a batch of datagrams what is not QUIC.

use super::packet::FIXED_BIT;

/// Gives every segment of a batch that is not QUIC to `take`, and moves the others together, in their order. Returns
/// how many bytes are left.
///
/// The system hands over several datagrams of one sender as one (GRO): each of `stride` bytes but for the last, which
/// may be shorter. So a punch may stand behind QUIC packets. Whole segments are taken out, hence only the last one of
/// what is left can be a short one.
pub(in super::super) fn sift(batch: &mut [u8], stride: usize, mut take: impl FnMut(&[u8])) -> usize {
    let stride = if stride == 0 { batch.len() } else { stride };
    let (mut read, mut kept) = (0, 0);
    while read < batch.len() {
        let end = batch.len().min(read + stride);
        if batch[read] & FIXED_BIT == 0 {
            take(&batch[read..end]);
        } else {
            if kept != read {
                batch.copy_within(read..end, kept);
            }
            kept += end - read;
        }
        read = end;
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_batch_is_parted_into_what_is_quic_and_what_is_not(
            first_bytes in prop::collection::vec(any::<u8>(), 0..20),
            stride in 1usize..60,
            cut in 0usize..60,
        ) {
            // The oracle: a list of datagrams, parted as a list.
            let mut datagrams: Vec<Vec<u8>> = first_bytes
                .iter()
                .enumerate()
                .map(|(n, &first)| [vec![first], vec![n as u8; stride - 1]].concat())
                .collect();
            if let Some(last) = datagrams.last_mut() {
                last.truncate(1 + cut % stride);
            }
            let mut batch = datagrams.concat();
            let mut taken = Vec::new();
            let left = sift(&mut batch, stride, |datagram| taken.push(datagram.to_vec()));

            let (quic, ours): (Vec<_>, Vec<_>) = datagrams.into_iter().partition(|datagram| datagram[0] & 0x40 != 0);
            prop_assert_eq!(taken, ours);
            // As quinn takes it apart.
            let again: Vec<_> = batch[..left].chunks(stride).map(<[u8]>::to_vec).collect();
            prop_assert_eq!(again, quic);
        }
    }

    #[test]
    fn a_batch_without_a_stride_is_one_datagram() {
        let mut taken = Vec::new();
        assert_eq!(
            sift(&mut [0x01, 0x40], 0, |datagram| taken.push(datagram.to_vec())),
            0
        );
        assert_eq!(taken, [[0x01, 0x40]]);
        assert_eq!(sift(&mut [], 0, |_| panic!("there is nothing")), 0);
    }
}
