use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::client::ProducerIdentity;

/// A record with everything a record can have.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Owned {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Vec<u8>)>,
}

impl Owned {
    fn outgoing(&self) -> OutgoingRecord<'_> {
        OutgoingRecord {
            timestamp: self.timestamp,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: &self.headers,
        }
    }
}

fn records() -> impl Strategy<Value = Vec<Owned>> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..200);
    let header = ("[a-zé]{0,9}", bytes());
    let record =
        (any::<i64>(), prop::option::of(bytes()), prop::option::of(bytes()), prop::collection::vec(header, 0..3));
    let record = record.prop_map(|(timestamp, key, value, headers)| Owned { timestamp, key, value, headers });
    prop::collection::vec(record, 1..20)
}

fn compression() -> impl Strategy<Value = Compression> {
    use Compression::*;
    prop::sample::select(vec![None, Gzip, Snappy, Lz4, Zstd])
}

fn encode(records: &[Owned], compression: Compression, origin: Option<Origin>) -> Bytes {
    let mut builder = BatchBuilder::default();
    for record in records {
        let (before, room) = (builder.bytes(), builder.room_for(&record.outgoing()));
        builder.push(&record.outgoing());
        assert_eq!(builder.bytes(), before + room, "the size is known beforehand");
    }
    builder.finish(compression, origin).unwrap()
}

fn decode(batch: &mut Batch) -> Result<Vec<(i64, Owned)>, BatchError> {
    let mut found = Vec::new();
    while let Some(record) = batch.next_record()? {
        let headers = record.headers.clone().map(|(name, value)| (name.to_owned(), value.unwrap_or_default().to_vec()));
        let owned = Owned {
            timestamp: record.timestamp,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: headers.collect(),
        };
        found.push((record.offset, owned));
    }
    Ok(found)
}

fn some_records() -> Vec<Owned> {
    let record = |value: &str| Owned {
        timestamp: 1_700_000_000_000,
        key: Some(b"k".to_vec()),
        value: Some(value.repeat(40).into_bytes()),
        headers: vec![("h".to_owned(), b"v".to_vec())],
    };
    vec![record("one"), record("two")]
}

proptest! {
    #[test]
    fn whatever_is_written_is_read(records in records(), compression in compression()) {
        let mut batches = Batches(encode(&records, compression, None));
        let mut batch = batches.next().unwrap().unwrap();
        prop_assert_eq!(batch.last_offset, records.len() as i64 - 1);
        let expected: Vec<_> = records.into_iter().enumerate().map(|(at, record)| (at as i64, record)).collect();
        prop_assert_eq!(decode(&mut batch).unwrap(), expected);
        prop_assert!(batches.next().is_none());
    }

    #[test]
    fn no_damage_goes_unnoticed_or_panics(compression in compression(), at in 0usize..1000, bit in 0u8..8) {
        let mut bytes = encode(&some_records(), compression, None).to_vec();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        match Batches(bytes.into()).next() {
            // Offset and leader epoch are the broker's to fill in, so the checksum does not cover them; a length can only become too large.
            Some(Ok(_)) => prop_assert!(at < 8 || (12..16).contains(&at), "byte {}", at),
            None => prop_assert!((8..12).contains(&at), "byte {}", at),
            // No offset is negative.
            Some(Err(_)) => prop_assert!(at >= 8 || (at, bit) == (0, 7), "byte {}", at),
        }
    }

    #[test]
    fn arbitrary_bytes_behind_a_right_checksum_do_no_harm(mut records in prop::collection::vec(any::<u8>(), 0..300), count in 0i32..9) {
        let mut bytes = encode(&some_records(), Compression::None, None).to_vec();
        bytes.truncate(HEADER);
        bytes.append(&mut records);
        let length = (bytes.len() - at::LEADER_EPOCH) as i32;
        bytes[at::LENGTH..at::LENGTH + 4].copy_from_slice(&length.to_be_bytes());
        bytes[at::COUNT..at::COUNT + 4].copy_from_slice(&count.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[at::ATTRIBUTES..]);
        bytes[at::CRC..at::CRC + 4].copy_from_slice(&crc.to_be_bytes());
        let mut batch = Batches(bytes.into()).next().unwrap().unwrap();
        if let Ok(read) = decode(&mut batch) {
            prop_assert_eq!(read.len(), count as usize);
        }
    }
}

#[test]
fn a_batch_carries_its_producer_and_whether_it_is_part_of_a_transaction() {
    let producer = ProducerIdentity { id: 77, epoch: 3 };
    let bytes = encode(&some_records(), Compression::Zstd, Some(Origin { producer, sequence: 5, transactional: true }));
    let batch = Batches(bytes).next().unwrap().unwrap();
    assert_eq!((batch.producer_id, batch.transactional, batch.control), (77, true, false));
}

#[test]
fn batches_follow_each_other_and_one_that_is_cut_off_is_left_for_the_next_answer() {
    let one = encode(&some_records(), Compression::None, None);
    let whole = [&one[..], &one[..]].concat();
    assert_eq!(Batches(whole.clone().into()).count(), 2);
    for end in one.len()..whole.len() {
        assert_eq!(Batches(Bytes::copy_from_slice(&whole[..end])).count(), 1, "cut at {end}");
    }
}

#[test]
fn records_of_before_kafka_0_11_are_refused_with_a_reason() {
    let mut bytes = encode(&some_records(), Compression::None, None).to_vec();
    bytes[at::MAGIC] = 1;
    let mut batches = Batches(bytes.into());
    let error = batches.next().unwrap().unwrap_err();
    assert!(error.to_string().contains("message format 1; only format 2"), "{error}");
    assert!(batches.next().is_none());
}

#[test]
fn snappy_without_a_frame_is_read_too() {
    let packed = snap::raw::Encoder::new().compress_vec(b"plain plain plain").unwrap();
    assert_eq!(Compression::Snappy.decompress(&packed).unwrap(), b"plain plain plain");
}
