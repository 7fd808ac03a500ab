use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use tempfile::TempDir;

use super::frame::{HEADER, MAX_PAYLOAD, framed};
use super::{Reader, Writer, remove_segments, segment};
use crate::error::Error;

const LOG: u64 = 0x1234_5678_9abc_def0;

fn written(payloads: &[&[u8]]) -> TempDir {
    let folder = TempDir::new().unwrap();
    let writer = Writer::create(folder.path(), LOG).unwrap();
    append(&writer, payloads);
    folder
}

fn append(writer: &Writer, payloads: &[&[u8]]) {
    for payload in payloads {
        let (lsn, _) = writer.submit(payload, 5).unwrap();
        writer.wait(lsn).unwrap();
    }
}

fn payloads(folder: &Path) -> Result<Vec<Vec<u8>>, Error> {
    Ok(Reader::new(folder, 0).read()?.into_iter().map(|record| record.payload).collect())
}

fn segment_bytes(folder: &Path, first_lsn: u64) -> Vec<u8> {
    std::fs::read(segment::path(folder, first_lsn)).unwrap()
}

/// A payload as compressed data is: no zeros.
fn noise(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed) | 1).collect()
}

#[test]
fn records_come_back_in_order_with_times_that_never_go_back() {
    let folder = TempDir::new().unwrap();
    let writer = Writer::create(folder.path(), LOG).unwrap();
    assert_eq!(writer.submit(b"one", 7).unwrap(), (1, 7));
    assert_eq!(writer.submit(b"", 3).unwrap(), (2, 7));
    writer.wait(2).unwrap();
    assert_eq!(writer.durable_lsn(), 2);
    drop(writer);
    let writer = Writer::open(folder.path(), 0).unwrap();
    assert_eq!(writer.submit(b"three", 9).unwrap(), (3, 9));
    writer.close().unwrap();
    assert!(writer.submit(b"four", 9).is_err());
    let records = Reader::new(folder.path(), 1).read().unwrap();
    let found: Vec<_> = records.iter().map(|r| (r.lsn, r.time_ns, r.payload.as_slice())).collect();
    assert_eq!(found, [(2, 7, b"".as_slice()), (3, 9, b"three")]);
}

#[test]
fn what_was_only_submitted_is_not_there() {
    let folder = TempDir::new().unwrap();
    let writer = Writer::create(folder.path(), LOG).unwrap();
    writer.submit(b"one", 0).unwrap();
    assert!(payloads(folder.path()).unwrap().is_empty());
}

#[test]
fn threads_share_syncs_and_lose_nothing() {
    let folder = TempDir::new().unwrap();
    let writer = Arc::new(Writer::create(folder.path(), LOG).unwrap());
    let threads: Vec<_> = (0..8_u8)
        .map(|number| {
            let writer = Arc::clone(&writer);
            std::thread::spawn(move || {
                for _ in 0..50 {
                    let (lsn, _) = writer.submit(&[number; 100], 0).unwrap();
                    writer.wait(lsn).unwrap();
                    assert!(writer.durable_lsn() >= lsn);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let found = payloads(folder.path()).unwrap();
    assert_eq!(found.len(), 400);
    assert!((0..8_u8).all(|number| found.iter().filter(|payload| payload[0] == number).count() == 50));
}

#[test]
fn a_long_record_spans_frames() {
    let long = noise(2 * MAX_PAYLOAD + 17, 1);
    let folder = written(&[b"before", &long, b"after"]);
    assert_eq!(payloads(folder.path()).unwrap(), [b"before".to_vec(), long.clone(), b"after".to_vec()]);
    let whole = segment_bytes(folder.path(), 1);
    // cut within its third frame: the two whole frames before do not count
    let cut = framed(6) + 2 * framed(MAX_PAYLOAD) + HEADER + 3;
    std::fs::write(segment::path(folder.path(), 1), &whole[..cut]).unwrap();
    assert_eq!(payloads(folder.path()).unwrap(), [b"before".to_vec()]);
}

#[test]
fn segments_turn_are_followed_and_dropped() {
    let folder = TempDir::new().unwrap();
    let writer = Writer::create(folder.path(), LOG).unwrap();
    let mut reader = Reader::new(folder.path(), 0);
    let big = vec![7; 24 << 20];
    let mut read = 0;
    for _ in 0..7 {
        append(&writer, &[&big]);
        read += reader.read().unwrap().len();
    }
    assert_eq!(read, 7);
    assert_eq!(segment::list(folder.path()).unwrap(), [1, 3, 5, 7]);
    writer.close().unwrap();
    let size = |first| segment_bytes(folder.path(), first).len();
    let frame = 6 * framed(4 << 20);
    assert_eq!([size(1), size(7)], [2 * frame, frame], "ended segments have no unused space");
    assert_eq!(remove_segments(folder.path(), 4).unwrap(), [1, 3]);
    assert!(
        Reader::new(folder.path(), 2).read().unwrap_err().to_string().contains("records 3 to 4 are gone")
    );
    assert_eq!(Reader::new(folder.path(), 4).read().unwrap().len(), 3);
    std::fs::remove_file(segment::path(folder.path(), 5)).unwrap();
    std::fs::write(segment::path(folder.path(), 4), b"").unwrap();
    assert!(Reader::new(folder.path(), 3).read().is_err(), "a segment is missing");
}

#[test]
fn every_truncation_keeps_the_whole_records_and_a_closed_log_notices() {
    let payloads_written: [&[u8]; 3] = [b"one", b"", &noise(1500, 9)];
    let folder = written(&payloads_written);
    Writer::open(folder.path(), 0).unwrap().close().unwrap();
    let path = segment::path(folder.path(), 1);
    let whole = std::fs::read(&path).unwrap();
    let ends = [framed(3), framed(3) + framed(0), whole.len()];
    for cut in 0..whole.len() {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let error = Reader::new(folder.path(), 0).read().unwrap_err();
        assert!(matches!(error, Error::LogCorrupt { .. }), "cut at {cut} of a closed log: {error}");
    }
    std::fs::remove_file(folder.path().join("CLOSED")).unwrap();
    for cut in 0..=whole.len() {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let want = ends.iter().filter(|end| **end <= cut).count();
        assert_eq!(payloads(folder.path()).unwrap().len(), want, "cut at {cut}");
    }
}

#[test]
fn every_flip_is_found_where_it_is() {
    let folder = written(&[b"one", b"two", &noise(1500, 5)]);
    Writer::open(folder.path(), 0).unwrap().close().unwrap();
    std::fs::remove_file(folder.path().join("CLOSED")).unwrap();
    let path = segment::path(folder.path(), 1);
    let whole = std::fs::read(&path).unwrap();
    let starts = [0, framed(3), 2 * framed(3)];
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        std::fs::write(&path, &damaged).unwrap();
        let frame = starts.iter().rposition(|start| *start <= at).unwrap();
        match Reader::new(folder.path(), 0).read() {
            Err(Error::LogCorrupt { offset, last_good_lsn, .. }) => {
                assert_eq!((offset, last_good_lsn), (starts[frame] as u64, frame as u64), "byte {at}");
            }
            other => panic!("byte {at}: {other:?}"),
        }
    }
    let mark = folder.path().join("CLOSED");
    std::fs::write(&mark, b"nonsense").unwrap();
    std::fs::write(&path, &whole).unwrap();
    assert!(payloads(folder.path()).is_err(), "a damaged mark");
}

#[test]
fn a_write_that_never_finished_is_cut_off() {
    let folder = written(&[b"one", &noise(3000, 5)]);
    let path = segment::path(folder.path(), 1);
    let space = std::fs::read(&path).unwrap();
    assert_eq!(space.len(), 1 << 20, "space is reserved");
    let (first, second) = (framed(3), framed(3000));
    let space = &space[..first + second + 1000];
    // any prefix of the frame, as a short write leaves it
    for length in 0..second {
        let mut torn = space.to_vec();
        torn[first + length..first + second].fill(0);
        std::fs::write(&path, &torn).unwrap();
        assert_eq!(payloads(folder.path()).unwrap(), [b"one".to_vec()], "{length} bytes of the frame");
    }
    // any one sector, as a power cut leaves it
    for sector in 1..(first + second).div_ceil(512) {
        let mut torn = space.to_vec();
        torn[sector * 512..(sector + 1) * 512].fill(0);
        std::fs::write(&path, &torn).unwrap();
        assert_eq!(payloads(folder.path()).unwrap(), [b"one".to_vec()], "sector {sector}");
    }
    let writer = Writer::open(folder.path(), 0).unwrap();
    append(&writer, &[b"again"]);
    assert_eq!(payloads(folder.path()).unwrap(), [b"one".to_vec(), b"again".to_vec()]);
}

#[test]
fn a_batch_may_be_torn_in_its_middle() {
    let folder = TempDir::new().unwrap();
    let writer = Writer::create(folder.path(), LOG).unwrap();
    append(&writer, &[b"one"]);
    let big = noise(2000, 7);
    writer.submit(&big, 0).unwrap();
    writer.submit(b"three", 0).unwrap();
    writer.wait(3).unwrap();
    let path = segment::path(folder.path(), 1);
    let mut torn = std::fs::read(&path).unwrap();
    torn[1024..1536].fill(0);
    std::fs::write(&path, &torn).unwrap();
    assert_eq!(payloads(folder.path()).unwrap(), [b"one".to_vec()], "neither was acknowledged");
    torn[1024..1536].copy_from_slice(&segment_bytes_of(&big)[..512]);
    torn[70] ^= 1;
    std::fs::write(&path, &torn).unwrap();
    assert!(payloads(folder.path()).is_err(), "the first was acknowledged, as the frames behind it say");
}

fn segment_bytes_of(payload: &[u8]) -> Vec<u8> {
    payload.to_vec()
}

#[test]
fn a_frame_within_a_payload_is_no_frame_of_the_log() {
    let other = TempDir::new().unwrap();
    append(&Writer::create(other.path(), LOG + 1).unwrap(), &[b"x", b"y", b"z"]);
    let mut inner = segment_bytes(other.path(), 1)[2 * framed(1)..3 * framed(1)].to_vec();
    inner.extend(noise(3000, 1));
    let folder = written(&[b"one", &inner]);
    let path = segment::path(folder.path(), 1);
    let mut torn = std::fs::read(&path).unwrap();
    torn[framed(3) + 2048..].fill(0);
    std::fs::write(&path, &torn).unwrap();
    assert_eq!(payloads(folder.path()).unwrap(), [b"one".to_vec()]);
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let folder = written(&[b"one"]);
    let path = segment::path(folder.path(), 1);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4] = 2;
    let crc = crc32c::crc32c(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(&path, &bytes).unwrap();
    assert!(payloads(folder.path()).unwrap_err().to_string().contains("format version 2"));
}

#[test]
fn the_format_is_what_it_was() {
    let folder = written(&[b"golden", b""]);
    Writer::open(folder.path(), 0).unwrap().close().unwrap();
    let golden = include_bytes!("golden_v1_codec2.log");
    assert_eq!(segment_bytes(folder.path(), 1), golden);
}

#[test]
fn a_reader_goes_segment_by_segment_and_loses_nothing_where_one_does_not_read() {
    let folder = TempDir::new().unwrap();
    let writer = Writer::create(folder.path(), LOG).unwrap();
    let payload = noise(30 << 20, 1);
    append(&writer, &[b"a", &payload, &payload, b"b", &payload, b"c"]);
    drop(writer);
    let segments = segment::list(folder.path()).unwrap();
    assert!(segments.len() > 1, "{segments:?}");
    let mut reader = Reader::new(folder.path(), 0);
    let mut counts = Vec::new();
    loop {
        let records = reader.read_segment().unwrap();
        if records.is_empty() {
            break;
        }
        counts.push(records.len());
    }
    assert_eq!(counts.iter().sum::<usize>(), 6);
    assert!(counts.len() > 1);

    let last = segment::path(folder.path(), *segments.last().unwrap());
    let whole = std::fs::read(&last).unwrap();
    let mut damaged = whole.clone();
    damaged[5] ^= 1;
    std::fs::write(&last, damaged).unwrap();
    let mut reader = Reader::new(folder.path(), 0);
    assert!(reader.read().is_err());
    std::fs::write(&last, whole).unwrap();
    assert_eq!(
        reader.read().unwrap().iter().map(|record| record.lsn).collect::<Vec<_>>(),
        [1, 2, 3, 4, 5, 6]
    );
}

#[test]
fn records_of_the_first_codec_are_read() {
    let folder = TempDir::new().unwrap();
    std::fs::write(segment::path(folder.path(), 1), include_bytes!("golden_v1.log")).unwrap();
    assert_eq!(payloads(folder.path()).unwrap(), [b"golden".to_vec(), Vec::new()]);
}

proptest! {
    #[test]
    fn any_records_in_any_batches_come_back(
        lengths in proptest::collection::vec((0_usize..3000, any::<u8>(), any::<bool>()), 1..40),
        reopen in 0_usize..40,
    ) {
        let folder = TempDir::new().unwrap();
        let mut writer = Writer::create(folder.path(), LOG).unwrap();
        let mut want = Vec::new();
        for (number, (length, seed, waits)) in lengths.into_iter().enumerate() {
            if number == reopen {
                writer.close().unwrap();
                writer = Writer::open(folder.path(), 0).unwrap();
            }
            want.push(noise(length, seed));
            let (lsn, _) = writer.submit(&want[number], number as i64).unwrap();
            prop_assert_eq!(lsn, number as u64 + 1);
            if waits {
                writer.wait(lsn).unwrap();
            }
        }
        writer.close().unwrap();
        prop_assert_eq!(payloads(folder.path()).unwrap(), want);
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), at in 0_usize..400) {
        let folder = written(&[b"one", &noise(200, 2)]);
        let path = segment::path(folder.path(), 1);
        let mut damaged = std::fs::read(&path).unwrap();
        damaged[at..at + bytes.len()].copy_from_slice(&bytes);
        std::fs::write(&path, &damaged).unwrap();
        let _ = payloads(folder.path());
    }
}
