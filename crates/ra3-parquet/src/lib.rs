//! Rows of Parquet files, which may be damaged: what a file says of itself is checked before the
//! library believes it.
//!
//! The library asserts what a footer promises, takes room for as many values as a page claims, and
//! gives nulls for rows that no page has. So the places and numbers of a row group are compared
//! with the file and with its pages. What is left is caught where it is asserted.
//! Not done here: what a row means.

mod delta;

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};

use parquet::basic::Encoding;
use parquet::bloom_filter::Sbbf;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use parquet::file::reader::{FileReader, Length, RowGroupReader, SerializedFileReader};
use parquet::record::Row;
use parquet::record::reader::RowIter;
use parquet::schema::types::Type;

/// A file whose footer could be read.
pub struct Rows {
    reader: SerializedFileReader<File>,
    n_bytes: u64,
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Rows").finish_non_exhaustive()
    }
}

impl Rows {
    /// Opens a file.
    ///
    /// # Errors
    /// It is no Parquet, or is damaged.
    pub fn open(file: File) -> Result<Self, ParquetError> {
        let n_bytes = file.len();
        let reader = guarded(|| SerializedFileReader::new(file))?;
        Ok(Self { reader, n_bytes })
    }

    /// The names of its columns, of which each may hold further ones.
    pub fn columns(&self) -> Vec<&str> {
        let fields = self.schema().get_fields().iter();
        fields.map(|field| field.name()).collect()
    }

    /// Hands on the rows one by one, whole or with one column alone: then the others are not
    /// decoded. After a row that is damaged there is no other.
    ///
    /// # Errors
    /// A group of rows is damaged, which `fail` puts into words, or what takes a row refuses it.
    pub fn each<E>(
        &self,
        column: Option<&str>,
        fail: impl Fn(ParquetError) -> E,
        take: &mut dyn FnMut(Result<Row, ParquetError>) -> Result<(), E>,
    ) -> Result<(), E> {
        let projection = column.map(|column| self.only(column));
        let projection = projection.transpose().map_err(&fail)?;
        for group in 0..self.reader.num_row_groups() {
            let open = || Group::new(self.reader.get_row_group(group)?, column, self.n_bytes);
            let group = guarded(open).map_err(&fail)?;
            let rows = guarded(|| group.get_row_iter(projection.clone()));
            let mut rows = rows.map_err(&fail)?;
            while let Some(row) = guarded(|| rows.next().transpose()).transpose() {
                let is_damaged = row.is_err();
                take(row)?;
                if is_damaged {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn schema(&self) -> &Type {
        self.reader.metadata().file_metadata().schema()
    }

    /// The file's schema with one top-level column left.
    fn only(&self, column: &str) -> Result<Type, ParquetError> {
        let fields = self.schema().get_fields().iter();
        let fields = fields
            .filter(|field| field.name() == column)
            .take(1)
            .cloned();
        Type::group_type_builder(self.schema().name())
            .with_fields(fields.collect())
            .build()
    }
}

/// Calls the library; what it asserts of a file is an error of the file.
fn guarded<T>(read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ParquetError> {
    // What was being read is dropped after an error, so no broken state is seen.
    catch_unwind(AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err(damaged("what its parts say of each other does not fit")))
}

fn damaged(reason: impl Into<String>) -> ParquetError {
    ParquetError::General(reason.into())
}

/// A row group whose numbers fit the file, and whose pages are held to them.
struct Group<'a> {
    inner: Box<dyn RowGroupReader + 'a>,
}

impl<'a> Group<'a> {
    fn new(
        inner: Box<dyn RowGroupReader + 'a>,
        column: Option<&str>,
        n_bytes: u64,
    ) -> Result<Self, ParquetError> {
        let group = inner.metadata();
        let is_read = |chunk: &&ColumnChunkMetaData| {
            column.is_none_or(|column| chunk.column_path().parts()[0] == column)
        };
        for chunk in group.columns().iter().filter(is_read) {
            check(group, chunk, n_bytes)?;
        }
        Ok(Self { inner })
    }
}

fn check(
    group: &RowGroupMetaData,
    chunk: &ColumnChunkMetaData,
    n_bytes: u64,
) -> Result<(), ParquetError> {
    let name = chunk.column_path().string();
    let start = chunk
        .dictionary_page_offset()
        .unwrap_or_else(|| chunk.data_page_offset());
    let end = u64::try_from(start)
        .ok()
        .zip(u64::try_from(chunk.compressed_size()).ok())
        .and_then(|(start, length)| start.checked_add(length));
    if end.is_none_or(|end| end > n_bytes) {
        let length = chunk.compressed_size();
        return Err(damaged(format!(
            "{name:?} has {length} bytes at {start}, outside the file's {n_bytes}"
        )));
    }
    let (n_rows, n_values) = (group.num_rows(), chunk.num_values());
    // A list may have many values, and an empty one counts as one.
    let is_one_a_row = chunk.column_descr().max_rep_level() == 0;
    if n_rows < 0 || n_values < n_rows || (is_one_a_row && n_values != n_rows) {
        return Err(damaged(format!(
            "{name:?} has {n_values} values in a group of {n_rows} rows"
        )));
    }
    Ok(())
}

impl RowGroupReader for Group<'_> {
    fn metadata(&self) -> &RowGroupMetaData {
        self.inner.metadata()
    }

    fn num_columns(&self) -> usize {
        self.inner.num_columns()
    }

    fn get_column_page_reader(&self, i: usize) -> Result<Box<dyn PageReader>, ParquetError> {
        let column = self.metadata().column(i);
        let descriptor = column.column_descr();
        Ok(Box::new(Pages {
            inner: self.inner.get_column_page_reader(i)?,
            n_left: u64::try_from(column.num_values())?,
            max_levels: [descriptor.max_rep_level(), descriptor.max_def_level()],
        }))
    }

    fn get_column_bloom_filter(&self, i: usize) -> Option<&Sbbf> {
        self.inner.get_column_bloom_filter(i)
    }

    fn get_row_iter(&self, projection: Option<Type>) -> Result<RowIter<'_>, ParquetError> {
        RowIter::from_row_group(projection, self)
    }
}

/// The pages of a column, which have to have as many values as the footer says.
struct Pages {
    inner: Box<dyn PageReader>,
    n_left: u64,
    /// Of repetition and definition.
    max_levels: [i16; 2],
}

/// What follows a data page's levels of repetition and definition, or `None` if they have no end.
fn values_of(page: &Page, max_levels: [i16; 2]) -> Option<&[u8]> {
    match page {
        Page::DictionaryPage { .. } => None,
        Page::DataPageV2 {
            buf,
            rep_levels_byte_len,
            def_levels_byte_len,
            ..
        } => buf.get(rep_levels_byte_len.checked_add(*def_levels_byte_len)? as usize..),
        Page::DataPage {
            buf,
            num_values,
            def_level_encoding,
            rep_level_encoding,
            ..
        } => {
            let mut rest = &buf[..];
            let encodings = [rep_level_encoding, def_level_encoding];
            for (max_level, encoding) in max_levels.into_iter().zip(encodings) {
                let n_bytes = match encoding {
                    _ if max_level == 0 => 0,
                    Encoding::RLE => u32::from_le_bytes(*rest.split_off(..4)?.as_array()?) as usize,
                    // Of old writers: as many bits a level as the highest needs.
                    _ => {
                        let n_bits = i16::BITS - max_level.leading_zeros();
                        (*num_values as usize * n_bits as usize).div_ceil(8)
                    }
                };
                rest.split_off(..n_bytes)?;
            }
            Some(rest)
        }
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>, ParquetError> {
        let page = self.inner.get_next_page()?;
        match &page {
            None if self.n_left > 0 => {
                let reason = format!("{} values are on no page", self.n_left);
                return Err(damaged(reason));
            }
            // Whatever has a dictionary takes a byte a value at least.
            Some(Page::DictionaryPage {
                buf, num_values, ..
            }) if *num_values as usize > buf.len() => {
                let length = buf.len();
                return Err(damaged(format!(
                    "a dictionary of {num_values} values in {length} bytes"
                )));
            }
            None | Some(Page::DictionaryPage { .. }) => (),
            Some(page @ (Page::DataPage { .. } | Page::DataPageV2 { .. })) => {
                self.n_left = self
                    .n_left
                    .checked_sub(u64::from(page.num_values()))
                    .ok_or_else(|| damaged("its pages have more values than its footer says"))?;
                let values = values_of(page, self.max_levels)
                    .ok_or_else(|| damaged("a page ends before its levels do"))?;
                delta::check(page.encoding(), values, page.num_values())?;
            }
        }
        Ok(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>, ParquetError> {
        self.inner.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<(), ParquetError> {
        self.inner.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> Result<bool, ParquetError> {
        self.inner.at_record_boundary()
    }
}

impl Iterator for Pages {
    type Item = Result<Page, ParquetError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use parquet::basic::Encoding;

    use super::*;

    /// Pages that need no file.
    struct Given(VecDeque<Page>);

    impl PageReader for Given {
        fn get_next_page(&mut self) -> Result<Option<Page>, ParquetError> {
            Ok(self.0.pop_front())
        }

        fn peek_next_page(&mut self) -> Result<Option<PageMetadata>, ParquetError> {
            Ok(None)
        }

        fn skip_next_page(&mut self) -> Result<(), ParquetError> {
            Ok(())
        }
    }

    impl Iterator for Given {
        type Item = Result<Page, ParquetError>;

        fn next(&mut self) -> Option<Self::Item> {
            self.get_next_page().transpose()
        }
    }

    fn data(num_values: u32) -> Page {
        Page::DataPage {
            buf: vec![0; 8].into(),
            num_values,
            encoding: Encoding::PLAIN,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        }
    }

    fn dictionary(num_values: u32) -> Page {
        Page::DictionaryPage {
            buf: vec![0; 8].into(),
            num_values,
            encoding: Encoding::PLAIN,
            is_sorted: false,
        }
    }

    /// Reads pages that should have so many values.
    fn read(n_values: u64, pages: Vec<Page>) -> Result<usize, String> {
        let inner = Box::new(Given(pages.into()));
        let pages = Pages {
            inner,
            n_left: n_values,
            max_levels: [0, 0],
        };
        let read: Result<Vec<Page>, ParquetError> = pages.collect();
        read.map(|pages| pages.len())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn pages_are_held_to_what_the_footer_says() {
        assert_eq!(read(5, vec![dictionary(8), data(3), data(2)]), Ok(3));
        assert_eq!(read(0, Vec::new()), Ok(0));
        let refused = [
            (5, vec![data(3)], "2 values are on no page"),
            (5, vec![data(3), data(3)], "more values than its footer"),
            // The library would take room for all of them.
            (
                5,
                vec![dictionary(u32::MAX)],
                "4294967295 values in 8 bytes",
            ),
        ];
        for (n_values, pages, expected) in refused {
            let error = read(n_values, pages).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn what_the_library_asserts_is_an_error() {
        let error = guarded::<()>(|| panic!("column start and length")).unwrap_err();
        assert!(error.to_string().contains("does not fit"), "{error}");
        assert_eq!(guarded(|| Ok(3)).unwrap(), 3);
    }
}
