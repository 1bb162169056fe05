use proptest::prelude::*;

use super::*;

/// Feeds `bytes` in pieces that end at `cuts` (and at the end) and collects the frames.
fn read(bytes: &[u8], cuts: &[usize]) -> Result<Vec<Frame>, FrameError> {
    let mut reader = FrameReader::new();
    let mut frames = Vec::new();
    let mut from = 0;
    for &to in cuts.iter().chain([&bytes.len()]) {
        let mut piece = &bytes[from..to.max(from)];
        from = to.max(from);
        while !piece.is_empty() {
            let filled = reader.fill(|target| Ok(copy(&mut piece, target))).unwrap();
            assert!(filled.payload + filled.staging > 0, "there is always room for more");
            while let Some(frame) = reader.next(|slot| slot < 1000)? {
                frames.push(frame);
            }
            assert!(reader.memory() <= 2 * (from + MAX_PAYLOAD as usize), "no more memory than bytes that came");
        }
    }
    Ok(frames)
}

fn copy(piece: &mut &[u8], target: Target<'_>) -> Filled {
    let mut filled = Filled { payload: 0, staging: 0 };
    if let Some((payload, lacking)) = target.payload {
        filled.payload = lacking.min(piece.len());
        payload.extend_from_slice(&piece[..filled.payload]);
        *piece = &piece[filled.payload..];
    }
    filled.staging = target.staging.len().min(piece.len());
    target.staging[..filled.staging].copy_from_slice(&piece[..filled.staging]);
    *piece = &piece[filled.staging..];
    filled
}

impl FrameReader {
    fn memory(&self) -> usize {
        self.current.iter().map(|c| c.2.capacity()).chain(self.fragments.values().map(Vec::capacity)).sum()
    }
}

/// What a sender of one frame a batch would write.
fn encode(frame: &Frame) -> Vec<u8> {
    match frame {
        Frame::Batch { slot, bytes, records } => {
            let mut out = Vec::new();
            let mut pieces = bytes.chunks(FRAGMENT_BYTES).peekable();
            while let Some(piece) = pieces.next() {
                let head = match pieces.peek() {
                    Some(_) => Head::fragment(*slot, piece.len()),
                    None => Head::batch(*slot, piece.len(), *records),
                };
                out.extend_from_slice(head.as_bytes());
                out.extend_from_slice(piece);
            }
            if bytes.is_empty() {
                out.extend_from_slice(Head::batch(*slot, 0, *records).as_bytes());
            }
            out
        }
        Frame::Control { slot, control } => Head::control(*slot, *control).as_bytes().to_vec(),
        Frame::Grant { slot, id, credits } => Head::grant(*slot, *id, *credits).as_bytes().to_vec(),
        Frame::Credit { slot, credits } => Head::credit(*slot, *credits).as_bytes().to_vec(),
    }
}

fn one_of_each() -> Vec<Frame> {
    let control = |slot, control| Frame::Control { slot, control };
    vec![
        Frame::Grant { slot: 0, id: ChannelId { edge: 1, producer: 2, consumer: 3 }, credits: 8 },
        Frame::Batch { slot: 7, bytes: (0..100).collect(), records: 5 },
        Frame::Batch { slot: 8, bytes: Vec::new(), records: 9 },
        control(7, Control::Watermark(-3)),
        control(7, Control::Idle(true)),
        Frame::Credit { slot: 999, credits: u32::MAX },
        control(
            7,
            Control::Barrier(Barrier {
                checkpoint: u64::MAX,
                timestamp: -1,
                aligned: true,
                kind: weir_model::CheckpointKind::Savepoint,
            }),
        ),
        control(7, Control::End),
    ]
}

#[test]
fn frames_survive_a_cut_at_every_position() {
    let frames = one_of_each();
    let bytes: Vec<u8> = frames.iter().flat_map(encode).collect();
    for cut in 0..=bytes.len() {
        assert_eq!(read(&bytes, &[cut]).as_ref(), Ok(&frames), "cut at {cut}");
    }
    let everywhere: Vec<usize> = (0..bytes.len()).collect();
    assert_eq!(read(&bytes, &everywhere), Ok(frames));
}

#[test]
fn fragments_of_channels_may_be_interleaved() {
    let piece = |head: Head, byte: u8, len: usize| [head.as_bytes(), &vec![byte; len]].concat();
    let bytes = [
        piece(Head::fragment(1, 70_000), 1, 70_000),
        piece(Head::fragment(2, 10), 2, 10),
        piece(Head::batch(3, 5, 1), 3, 5),
        piece(Head::fragment(1, 70_000), 1, 70_000),
        piece(Head::batch(2, 3, 4), 2, 3),
        piece(Head::batch(1, 1, 1), 1, 1),
    ]
    .concat();
    let batch = |slot, len, records| Frame::Batch { slot, bytes: vec![slot as u8; len], records };
    assert_eq!(read(&bytes, &[]), Ok(vec![batch(3, 5, 1), batch(2, 13, 4), batch(1, 140_001, 1)]));
}

#[test]
fn damage_is_told_apart() {
    let mut unknown = Head::credit(0, 1).as_bytes().to_vec();
    unknown[0] = 77;
    assert!(matches!(read(&unknown, &[]), Err(FrameError::Header(_))));
    let mut reserved = Head::credit(0, 1).as_bytes().to_vec();
    reserved[2] = 1;
    assert!(matches!(read(&reserved, &[]), Err(FrameError::Header(_))));
    let huge = Head::new(BATCH, 0, u32::MAX, 1);
    assert_eq!(read(huge.as_bytes(), &[]), Err(FrameError::Length { kind: BATCH, length: u32::MAX }));
    assert_eq!(read(Head::batch(1000, 4, 1).as_bytes(), &[]), Err(FrameError::Closed(1000)));
}

fn any_frame() -> impl Strategy<Value = Frame> {
    let barrier = (any::<u64>(), any::<i64>(), any::<bool>()).prop_map(|(checkpoint, timestamp, aligned)| {
        Control::Barrier(Barrier { checkpoint, timestamp, aligned, kind: weir_model::CheckpointKind::Savepoint })
    });
    let control = prop_oneof![
        any::<i64>().prop_map(Control::Watermark),
        any::<bool>().prop_map(Control::Idle),
        barrier,
        Just(Control::End),
    ];
    let id = any::<(u32, u32, u32)>().prop_map(|(edge, producer, consumer)| ChannelId { edge, producer, consumer });
    let length = prop_oneof![9 => 0..5000usize, 1 => 0..3 * FRAGMENT_BYTES];
    prop_oneof![
        (0..1000u32, length, any::<u8>(), any::<u32>()).prop_map(|(slot, len, byte, records)| Frame::Batch {
            slot,
            bytes: vec![byte; len],
            records
        }),
        (any::<u32>(), control).prop_map(|(slot, control)| Frame::Control { slot, control }),
        (any::<u32>(), id, any::<u32>()).prop_map(|(slot, id, credits)| Frame::Grant { slot, id, credits }),
        any::<(u32, u32)>().prop_map(|(slot, credits)| Frame::Credit { slot, credits }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_frames_cut_anywhere_come_back(
        frames in prop::collection::vec(any_frame(), 0..12),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let bytes: Vec<u8> = frames.iter().flat_map(encode).collect();
        let mut cuts: Vec<usize> = cuts.iter().map(|c| c.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        prop_assert_eq!(read(&bytes, &cuts), Ok(frames));
    }

    #[test]
    fn arbitrary_bytes_neither_panic_nor_allocate(bytes in prop::collection::vec(any::<u8>(), 0..20_000)) {
        let _ = read(&bytes, &[bytes.len() / 2]);
    }

    /// Nearly right bytes get further into the reader than noise does.
    #[test]
    fn damaged_frames_neither_panic_nor_allocate(
        frames in prop::collection::vec(any_frame(), 1..6),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes: Vec<u8> = frames.iter().flat_map(encode).collect();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = read(&bytes, &[]);
    }
}
