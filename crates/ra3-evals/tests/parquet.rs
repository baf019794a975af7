//! Benchmarks whose records are rows of Parquet files: they are what the same records are as JSON
//! lines, folders hold files that add up, and damage is said.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not there"
)]

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{Compression, ZstdLevel};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use ra3_evals::contest::records;
use ra3_evals::problem;
use ra3_evals::rlvr::assert_lists;

/// A column's values and, where they are not all there once a row, their levels.
enum Column<'a> {
    Texts(&'a [&'a str], Option<(&'a [i16], &'a [i16])>),
    Integers(&'a [i64]),
    /// `None` is null.
    Numbers(&'a [Option<f64>]),
}

/// Writes one group of rows.
fn write(path: &Path, schema: &str, compression: Compression, columns: &[Column<'_>]) {
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = WriterProperties::builder().set_compression(compression);
    let file = File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties.build())).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for column in columns {
        let mut slot = group.next_column().unwrap().unwrap();
        match (slot.untyped(), column) {
            (ColumnWriter::ByteArrayColumnWriter(slot), Column::Texts(texts, levels)) => {
                let texts: Vec<ByteArray> =
                    texts.iter().map(|text| ByteArray::from(*text)).collect();
                let (definitions, repetitions) = levels.unzip();
                slot.write_batch(&texts, definitions, repetitions).unwrap();
            }
            (ColumnWriter::Int64ColumnWriter(slot), Column::Integers(numbers)) => {
                slot.write_batch(numbers, None, None).unwrap();
            }
            (ColumnWriter::DoubleColumnWriter(slot), Column::Numbers(numbers)) => {
                let there: Vec<f64> = numbers.iter().flatten().copied().collect();
                let levels: Vec<i16> = numbers.iter().map(|n| i16::from(n.is_some())).collect();
                slot.write_batch(&there, Some(&levels), None).unwrap();
            }
            _ => panic!("the schema has another type"),
        }
        slot.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
}

/// Questions with asserts as AceCode-87K has them.
const ASSERTS: &str = "message schema { optional binary id (UTF8); optional binary question (UTF8);
    optional group test_cases (LIST) { repeated group list { optional binary element (UTF8); } } }";

/// One question a name, each with two asserts.
fn write_asserts(path: &Path, names: &[&str], compression: Compression) {
    let there = vec![1; names.len()];
    let each = vec![0; names.len()];
    let texts: Vec<String> = names
        .iter()
        .map(|name| format!("Find the {name}."))
        .collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let asserts = ["assert f(1) == 2", "assert f(2) == 3"].repeat(names.len());
    let columns = [
        Column::Texts(names, Some((&there, &each))),
        Column::Texts(&texts, Some((&there, &each))),
        Column::Texts(
            &asserts,
            Some((&[3, 3].repeat(names.len()), &[0, 1].repeat(names.len()))),
        ),
    ];
    write(path, ASSERTS, compression, &columns);
}

#[test]
fn rows_are_what_json_lines_are() {
    let folder = tempfile::tempdir().unwrap();
    let compressions = [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::ZSTD(ZstdLevel::default()),
    ];
    let lines = folder.path().join("a.jsonl");
    let line = |name: &str| {
        format!(
            "{{\"id\": \"{name}\", \"question\": \"Find the {name}.\", \
             \"test_cases\": [\"assert f(1) == 2\", \"assert f(2) == 3\"]}}\n"
        )
    };
    std::fs::write(&lines, ["sum", "é"].map(line).concat()).unwrap();
    let (of_lines, _) = assert_lists::read(&lines).unwrap();
    for compression in compressions {
        let path = folder.path().join("a.parquet");
        write_asserts(&path, &["sum", "é"], compression);
        let (of_rows, checksum) = assert_lists::read(&path).unwrap();
        assert_eq!(of_rows, of_lines);
        let whole = std::fs::read(&path).unwrap();
        assert_eq!(checksum, md5_of(&whole));
    }
}

/// By the program of that name, as a user would look.
fn md5_of(bytes: &[u8]) -> String {
    use md5::Digest;
    format!("{:x}", md5::Md5::digest(bytes))
}

#[test]
fn the_files_of_a_folder_add_up_in_the_order_of_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let error = assert_lists::read(folder.path()).unwrap_err().to_string();
    assert!(error.contains("without .parquet files"), "{error}");
    write_asserts(&at("b.parquet"), &["third"], Compression::SNAPPY);
    write_asserts(&at("a.parquet"), &["first", "second"], Compression::SNAPPY);
    std::fs::write(at("a.parquet.sha256"), "no data").unwrap();
    let (problems, checksum) = assert_lists::read(folder.path()).unwrap();
    let names: Vec<&str> = problems.iter().map(|p| p.task_id.as_str()).collect();
    assert_eq!(names, ["first", "second", "third"]);
    let files = ["a.parquet", "b.parquet"].map(|name| std::fs::read(at(name)).unwrap());
    assert_eq!(checksum, md5_of(&files.concat()));
}

#[test]
fn rows_of_contests_are_read_as_they_are_published() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test-00000-of-00001.parquet");
    let schema = "message schema { required binary id (UTF8); required binary description (UTF8);
        optional double time_limit;
        optional group official_tests (LIST) { repeated group list { optional group element {
            optional binary input (UTF8); optional binary output (UTF8); } } }
        required binary input_mode (UTF8); }";
    // Two tests of the first row, none of the second.
    let levels: (&[i16], &[i16]) = (&[4, 4, 1], &[0, 1, 0]);
    let columns = [
        Column::Texts(&["1/A", "1/B"], None),
        Column::Texts(&["Add.", "Subtract."], None),
        Column::Numbers(&[Some(1.5), Some(3.0)]),
        Column::Texts(&["1 2", "3 4"], Some(levels)),
        Column::Texts(&["3", "7"], Some(levels)),
        Column::Texts(&["stdio", "stdio"], None),
    ];
    write(&path, schema, Compression::SNAPPY, &columns);
    let (tasks, _) = records::read(&path).unwrap();
    assert_eq!(tasks.len(), 2);
    assert_eq!((tasks[0].task_id.as_str(), tasks[0].time_s), ("1/A", 1.5));
    assert_eq!(tasks[0].tests[1].input, "3 4");
    assert_eq!((tasks[1].tests.len(), tasks[1].time_s), (0, 3.0));
}

#[test]
fn what_is_wrong_with_a_file_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    write(
        &path,
        "message schema { required binary id (UTF8); required int64 question; }",
        Compression::UNCOMPRESSED,
        &[Column::Texts(&["a"], None), Column::Integers(&[5])],
    );
    let error = assert_lists::read(&path).unwrap_err().to_string();
    assert!(
        error.contains("a.parquet, row 1: `question` should be a text"),
        "{error}"
    );
    let error = problem::read(&path).unwrap_err().to_string();
    assert!(error.contains("row 1: `task_id`"), "{error}");
    write_asserts(&path, &["sum", "product"], Compression::SNAPPY);
    let whole = std::fs::read(&path).unwrap();
    for length in [0, 3, 12, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        let error = assert_lists::read(&path).unwrap_err().to_string();
        assert!(
            error.contains("a.parquet as Parquet: it is damaged"),
            "{error}"
        );
    }
    // Any changed byte is an error, or data that are read: nothing breaks the reader.
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 0x55;
        std::fs::write(&path, &changed).unwrap();
        let _ = assert_lists::read(&path);
    }
}

#[test]
fn no_room_is_taken_for_what_a_page_only_claims_to_hold() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    write_asserts(&path, &["sum"], Compression::UNCOMPRESSED);
    let whole = std::fs::read(&path).unwrap();
    // The header of a dictionary begins so: a structure, and in it the number of its values, 1.
    let header = [0x4c, 0x15, 0x02];
    let at = whole.windows(3).position(|bytes| bytes == header).unwrap();
    let most = [0x4c, 0x15, 0xfe, 0xff, 0xff, 0xff, 0x0f];
    let changed = [&whole[..at], &most, &whole[at + 3..]].concat();
    std::fs::write(&path, changed).unwrap();
    let error = assert_lists::read(&path).unwrap_err();
    let reason = std::error::Error::source(&error).unwrap().to_string();
    assert!(reason.contains("2147483647 values in 7 bytes"), "{reason}");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]
    #[test]
    fn damage_is_an_error_or_gives_no_more_than_was_there(
        at in proptest::prelude::any::<proptest::sample::Index>(),
        written in proptest::collection::vec(proptest::prelude::any::<u8>(), 1..9),
        is_snappy in proptest::prelude::any::<bool>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        let compression = if is_snappy { Compression::SNAPPY } else { Compression::UNCOMPRESSED };
        write_asserts(&path, &["sum", "product", "mean"], compression);
        let mut bytes = std::fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        let end = bytes.len().min(at + written.len());
        bytes[at..end].copy_from_slice(&written[..end - at]);
        std::fs::write(&path, bytes).unwrap();
        if let Ok((problems, _)) = assert_lists::read(&path) {
            proptest::prop_assert!(problems.len() <= 3);
        }
    }
}
