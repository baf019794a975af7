//! Parquet files: one column of texts, the others are not decoded.

use std::path::Path;

use parquet::errors::ParquetError;
use parquet::record::{Field, Row};
use ra3_parquet::Rows;

use super::folder::files_of;
use super::regular::Regular;
use super::{Reading, document, not_utf8, place_name};
use crate::error::CorpusError;

pub(super) const SUFFIXES: &[&str] = &[".parquet"];

pub(super) fn read_all(
    root: &Path,
    column: &str,
    reading: &mut Reading,
) -> Result<(), CorpusError> {
    let files = files_of(root, SUFFIXES, reading)?;
    reading.each(&files, |path, reading| {
        read_one(root, path, column, reading)
    })
}

fn read_one(
    root: &Path,
    path: &Path,
    column: &str,
    reading: &mut Reading,
) -> Result<(), CorpusError> {
    let regular = Regular::open(path)?;
    let file = regular
        .file
        .try_clone()
        .map_err(|source| CorpusError::Read(path.to_owned(), source))?;
    let fail = |source| CorpusError::Parquet(path.to_owned(), source);
    let rows = Rows::open(file).map_err(fail)?;
    if !rows.columns().contains(&column) {
        let names = rows.columns().join(", ");
        return Err(CorpusError::Record {
            path: path.to_owned(),
            place: "schema".to_owned(),
            reason: format!("there is no column {column:?}, only {names}"),
        });
    }
    let mut n_rows = 0;
    let mut take = |row: Result<Row, ParquetError>| {
        n_rows += 1;
        match text_of(row, path, &format!("row {n_rows}"), column) {
            Ok(text) => {
                let name = place_name(root, path, n_rows - 1);
                reading.documents.push(document(name, "", &text));
                Ok(())
            }
            Err(error) => reading.fail(error),
        }
    };
    rows.each(Some(column), fail, &mut take)?;
    regular.check()
}

fn text_of(
    row: Result<Row, ParquetError>,
    path: &Path,
    place: &str,
    column: &str,
) -> Result<String, CorpusError> {
    let refuse = |reason| CorpusError::Record {
        path: path.to_owned(),
        place: place.to_owned(),
        reason,
    };
    let row = row.map_err(|error| refuse(error.to_string()))?;
    match row.into_columns().pop() {
        Some((_, Field::Str(text))) => Ok(text),
        // Writers without the UTF-8 annotation.
        Some((_, Field::Bytes(bytes))) => String::from_utf8(bytes.data().to_vec())
            .map_err(|_| not_utf8(path, place, bytes.data())),
        _ => Err(refuse(format!("{column:?} is no text"))),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::sync::Arc;

    use parquet::basic::{Compression, ZstdLevel};
    use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
    use parquet::file::properties::{WriterProperties, WriterVersion};
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use super::*;
    use crate::filter::Rejected;
    use crate::read::{OnError, Source, read};

    fn write(path: &Path, kind: &str, compression: Compression, texts: &[Option<&[u8]>]) {
        let properties = WriterProperties::builder().set_compression(compression);
        write_as(path, kind, properties.build(), texts);
    }

    fn write_as(path: &Path, kind: &str, properties: WriterProperties, texts: &[Option<&[u8]>]) {
        let message = format!(
            "message documents {{ required int64 id; optional byte_array content {kind}; }}"
        );
        let schema = Arc::new(parse_message_type(&message).unwrap());
        let file = File::create(path).unwrap();
        let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).unwrap();
        // Two groups, so that rows are counted over groups.
        for texts in texts.chunks(2) {
            let mut group = writer.next_row_group().unwrap();
            let mut column = group.next_column().unwrap().unwrap();
            let ids: Vec<i64> = (0..texts.len() as i64).collect();
            let written = column.typed::<Int64Type>().write_batch(&ids, None, None);
            written.unwrap();
            column.close().unwrap();
            let mut column = group.next_column().unwrap().unwrap();
            let values: Vec<ByteArray> = texts
                .iter()
                .flatten()
                .map(|text| ByteArray::from(text.to_vec()))
                .collect();
            let levels: Vec<i16> = texts.iter().map(|text| i16::from(text.is_some())).collect();
            let typed = column.typed::<ByteArrayType>();
            typed.write_batch(&values, Some(&levels), None).unwrap();
            column.close().unwrap();
            group.close().unwrap();
        }
        writer.close().unwrap();
    }

    fn source(path: &Path, column: &str) -> Source {
        Source::Parquet {
            path: path.to_owned(),
            column: column.to_owned(),
        }
    }

    #[test]
    fn texts_are_read_under_every_compression() {
        let dir = tempfile::tempdir().unwrap();
        let texts: [Option<&[u8]>; 3] = [Some(b"x = 1\n"), Some("é\n".as_bytes()), Some(b"")];
        let compressions = [
            Compression::UNCOMPRESSED,
            Compression::SNAPPY,
            Compression::GZIP(parquet::basic::GzipLevel::default()),
            Compression::ZSTD(ZstdLevel::default()),
        ];
        for (index, compression) in compressions.into_iter().enumerate() {
            for kind in ["(UTF8)", ""] {
                let path = dir.path().join(format!("{index}.parquet"));
                write(&path, kind, compression, &texts);
                let reading = read(&source(&path, "content"), OnError::Stop).unwrap();
                let read: Vec<_> = reading
                    .documents
                    .iter()
                    .map(|d| (d.name.clone(), d.text.as_str()))
                    .collect();
                let name = |row: usize| format!("{index}.parquet:{row}");
                assert_eq!(
                    read,
                    [(name(1), "x = 1\n"), (name(2), "é\n"), (name(3), "")]
                );
            }
        }
        let all = read(&source(dir.path(), "content"), OnError::Stop).unwrap();
        assert_eq!(all.documents.len(), 12);
    }

    #[test]
    fn what_is_no_text_is_named_or_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.parquet");
        write(
            &path,
            "",
            Compression::UNCOMPRESSED,
            &[Some(b"x"), Some(b"\xff"), None],
        );
        let error = read(&source(&path, "content"), OnError::Stop).unwrap_err();
        assert!(error.to_string().contains("row 2: not UTF-8"), "{error}");
        let reading = read(&source(&path, "content"), OnError::Drop).unwrap();
        assert_eq!(reading.documents.len(), 1);
        assert_eq!(reading.n_dropped[&Rejected::NotUtf8], 1);
        assert_eq!(reading.n_dropped[&Rejected::Unreadable], 1);
        let error = read(&source(&path, "text"), OnError::Stop).unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains("no column \"text\", only id, content"),
            "{message}"
        );
        write(&path, "", Compression::UNCOMPRESSED, &[Some(b"x"), None]);
        let error = read(&source(&path, "content"), OnError::Stop).unwrap_err();
        assert!(
            error.to_string().contains("row 2: \"content\" is no text"),
            "{error}"
        );
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let error = read(&source(&path, "content"), OnError::Stop).unwrap_err();
        assert!(error.to_string().contains("a.parquet"), "{error}");
        let folder = read(&source(dir.path(), "content"), OnError::Drop).unwrap();
        assert_eq!(folder.n_dropped[&Rejected::Unreadable], 1);
    }

    /// Reads a damaged copy of a file of three rows.
    fn read_damaged(folder: &Path, bytes: &[u8]) -> usize {
        let path = folder.join("a.parquet");
        std::fs::write(&path, bytes).unwrap();
        let reading = read(&source(&path, "content"), OnError::Drop).unwrap();
        let n_dropped: u64 = reading.n_dropped.values().sum();
        // Nothing is read or counted that was not there in number.
        assert!(reading.documents.len() + n_dropped as usize <= TEXTS.len() + 1);
        reading.documents.len()
    }

    const TEXTS: [Option<&[u8]>; 3] = [Some(b"x = 1\n"), None, Some(b"y")];

    fn whole(folder: &Path, compression: Compression, is_delta: bool) -> Vec<u8> {
        let path = folder.join("whole");
        let mut properties = WriterProperties::builder().set_compression(compression);
        if is_delta {
            properties = properties
                .set_writer_version(WriterVersion::PARQUET_2_0)
                .set_dictionary_enabled(false);
        }
        write_as(&path, "(UTF8)", properties.build(), &TEXTS);
        std::fs::read(&path).unwrap()
    }

    #[test]
    fn no_changed_byte_ends_the_reading() {
        let dir = tempfile::tempdir().unwrap();
        for compression in [Compression::UNCOMPRESSED, Compression::SNAPPY] {
            for is_delta in [false, true] {
                let bytes = whole(dir.path(), compression, is_delta);
                assert_eq!(read_damaged(dir.path(), &bytes), 2);
                for at in 0..bytes.len() {
                    let mut bytes = bytes.clone();
                    // By turns the sign of a place in the footer, and something else.
                    bytes[at] ^= 1 << (at % 2 * (at % 8));
                    read_damaged(dir.path(), &bytes);
                }
            }
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(300))]
        #[test]
        fn damage_is_an_error_and_no_end(
            at in proptest::prelude::any::<proptest::sample::Index>(),
            written in proptest::collection::vec(proptest::prelude::any::<u8>(), 1..9),
            is_snappy in proptest::prelude::any::<bool>(),
            is_delta in proptest::prelude::any::<bool>(),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let compression =
                if is_snappy { Compression::SNAPPY } else { Compression::UNCOMPRESSED };
            let mut bytes = whole(dir.path(), compression, is_delta);
            let at = at.index(bytes.len());
            let end = bytes.len().min(at + written.len());
            bytes[at..end].copy_from_slice(&written[..end - at]);
            read_damaged(dir.path(), &bytes);
        }
    }
}
