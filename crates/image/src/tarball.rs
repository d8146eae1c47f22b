//! Reads tar archives that nobody vouches for: every length that an archive can name is bounded before it is
//! believed. The header's fields are read by the `tar` crate; its iterator is not used, since it reads names of any
//! length into memory.

use std::io::{self, Read};

use tar::{EntryType, Header};

const BLOCK: u64 = 512;
/// Longer paths than Linux takes (`PATH_MAX`) are of no use.
const NAME_MAX: u64 = 8 << 10;
const PAX_MAX: u64 = 1 << 20;

/// Why an archive can't be read on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TarError {
    #[error("{0}")]
    Read(#[from] io::Error),
    #[error("not a tar archive, or a damaged one: {0}")]
    Format(String),
}

/// One entry's header, with its extensions applied.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) kind: EntryType,
    pub(crate) mode: u32,
    /// Of its data, in bytes.
    pub(crate) size: u64,
    /// Seconds since 1970.
    pub(crate) mtime: i64,
    /// Where its data begins in the archive, in bytes.
    pub(crate) offset: u64,
}

/// The entries of an archive, in order.
#[derive(Debug)]
pub(crate) struct Entries<R> {
    reader: R,
    position: u64,
    /// Of the present entry: data left, and the padding after it.
    data: u64,
    padding: u64,
}

#[derive(Debug, Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    mtime: Option<i64>,
}

impl<R: Read> Entries<R> {
    pub(crate) fn new(reader: R) -> Entries<R> {
        Entries {
            reader,
            position: 0,
            data: 0,
            padding: 0,
        }
    }

    /// The next entry, whose data [`Entries::data`] then reads.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, TarError> {
        let mut extensions = Extensions::default();
        loop {
            self.skip()?;
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            let format = |e: io::Error| TarError::Format(e.to_string());
            let size = header.entry_size().map_err(format)?;
            let kind = header.entry_type();
            self.begin(size)?;
            match kind {
                EntryType::GNULongName => extensions.path = Some(self.long_name()?),
                EntryType::GNULongLink => extensions.link = Some(self.long_name()?),
                EntryType::XHeader => self.pax(size, &mut extensions)?,
                // Comments of git and the like: nothing that a layer needs.
                EntryType::XGlobalHeader => {}
                _ => return self.entry(&header, extensions).map(Some),
            }
        }
    }

    /// Reads the present entry's data, to its end.
    pub(crate) fn data(&mut self) -> Data<'_, R> {
        Data(self)
    }

    /// The reader, somewhere behind the last entry that was asked for.
    pub(crate) fn into_inner(self) -> R {
        self.reader
    }

    /// Passes over the present entry's data without reading it.
    pub(crate) fn seek_past(&mut self) -> Result<(), TarError>
    where
        R: io::Seek,
    {
        let left = self.data + self.padding;
        let by = i64::try_from(left)
            .map_err(|_| TarError::Format(format!("an entry of {left} bytes")))?;
        self.reader.seek(io::SeekFrom::Current(by))?;
        self.position += left;
        (self.data, self.padding) = (0, 0);
        Ok(())
    }

    fn begin(&mut self, size: u64) -> Result<(), TarError> {
        let padded = size.checked_next_multiple_of(BLOCK);
        let padded = padded.ok_or_else(|| TarError::Format(format!("an entry of {size} bytes")))?;
        self.data = size;
        self.padding = padded - size;
        Ok(())
    }

    fn entry(&mut self, header: &Header, extensions: Extensions) -> Result<Entry, TarError> {
        let format = |e: io::Error| TarError::Format(e.to_string());
        let kind = header.entry_type();
        let size = match extensions.size {
            Some(size) => size,
            None => self.data,
        };
        // Links and folders have no data, whatever their size field says.
        let has_data = !matches!(
            kind,
            EntryType::Link
                | EntryType::Symlink
                | EntryType::Directory
                | EntryType::Char
                | EntryType::Block
                | EntryType::Fifo
        );
        self.begin(if has_data { size } else { 0 })?;
        Ok(Entry {
            path: extensions
                .path
                .unwrap_or_else(|| header.path_bytes().into_owned()),
            link: extensions
                .link
                .or_else(|| header.link_name_bytes().map(|b| b.into_owned()))
                .unwrap_or_default(),
            kind,
            mode: header.mode().map_err(format)?,
            size: self.data,
            mtime: extensions
                .mtime
                .unwrap_or_else(|| header.mtime().map_or(0, |m| i64::try_from(m).unwrap_or(0))),
            offset: self.position,
        })
    }

    /// The next header block; `None` at the end of the archive.
    fn header(&mut self) -> Result<Option<Header>, TarError> {
        let mut block = [0; BLOCK as usize];
        let mut filled = 0;
        while let Some(rest) = block.get_mut(filled..).filter(|r| !r.is_empty()) {
            match self.reader.read(rest) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(TarError::Format("it ends within a header".to_owned())),
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
        self.position += BLOCK;
        if block.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        let header = Header::from_byte_slice(&block).clone();
        // The checksum counts its own field (148..156) as spaces.
        let sum: u32 = block
            .iter()
            .enumerate()
            .map(|(i, b)| {
                if (148..156).contains(&i) {
                    32
                } else {
                    u32::from(*b)
                }
            })
            .sum();
        if header.cksum().ok() != Some(sum) {
            return Err(TarError::Format(format!(
                "a header at byte {} has a wrong checksum",
                self.position - BLOCK
            )));
        }
        Ok(Some(header))
    }

    fn skip(&mut self) -> Result<(), TarError> {
        let left = self.data + self.padding;
        let skipped = io::copy(&mut (&mut self.reader).take(left), &mut io::sink())?;
        self.position += skipped;
        if skipped < left {
            return Err(TarError::Format(format!(
                "it ends {} bytes too early",
                left - skipped
            )));
        }
        (self.data, self.padding) = (0, 0);
        Ok(())
    }

    fn whole(&mut self, what: &str, limit: u64) -> Result<Vec<u8>, TarError> {
        if self.data > limit {
            return Err(TarError::Format(format!(
                "{what} of {} bytes; at most {limit} are taken",
                self.data
            )));
        }
        let mut bytes = Vec::new();
        self.data().read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn long_name(&mut self) -> Result<Vec<u8>, TarError> {
        let mut name = self.whole("a name", NAME_MAX)?;
        let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
        name.truncate(end);
        Ok(name)
    }

    fn pax(&mut self, size: u64, extensions: &mut Extensions) -> Result<(), TarError> {
        debug_assert_eq!(size, self.data);
        let records = self.whole("a pax header", PAX_MAX)?;
        let number = |value: &[u8]| -> Option<i64> {
            // Times may have a fraction, which is dropped.
            std::str::from_utf8(value)
                .ok()?
                .split('.')
                .next()?
                .parse()
                .ok()
        };
        for (key, value) in pax_records(&records)? {
            let invalid = || {
                TarError::Format(format!(
                    "pax record {} is no number",
                    String::from_utf8_lossy(key)
                ))
            };
            match key {
                b"path" => extensions.path = Some(value.to_owned()),
                b"linkpath" => extensions.link = Some(value.to_owned()),
                b"size" => {
                    extensions.size = Some(
                        number(value)
                            .and_then(|n| u64::try_from(n).ok())
                            .ok_or_else(invalid)?,
                    )
                }
                b"mtime" => extensions.mtime = Some(number(value).ok_or_else(invalid)?),
                _ if key.starts_with(b"GNU.sparse.") => {
                    return Err(TarError::Format(
                        "a sparse file; make the layer without tar's --sparse".to_owned(),
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Key and value.
type PaxRecord<'a> = (&'a [u8], &'a [u8]);

/// Splits `<length> <key>=<value>\n` records.
fn pax_records(mut rest: &[u8]) -> Result<Vec<PaxRecord<'_>>, TarError> {
    let invalid =
        || TarError::Format("a pax header that is not '<length> <key>=<value>' lines".to_owned());
    let mut records = Vec::new();
    while !rest.is_empty() {
        let space = rest.iter().position(|b| *b == b' ').ok_or_else(invalid)?;
        let length = rest
            .get(..space)
            .and_then(|n| std::str::from_utf8(n).ok())
            .and_then(|n| n.parse::<usize>().ok());
        let length = length.filter(|l| *l <= rest.len()).ok_or_else(invalid)?;
        let record = rest
            .get(space + 1..length)
            .and_then(|r| r.strip_suffix(b"\n"))
            .ok_or_else(invalid)?;
        let equals = record.iter().position(|b| *b == b'=').ok_or_else(invalid)?;
        let (key, value) = record.split_at(equals);
        records.push((key, value.get(1..).unwrap_or_default()));
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(records)
}

/// The data of one entry.
#[derive(Debug)]
pub(crate) struct Data<'a, R>(&'a mut Entries<R>);

impl<R: Read> Read for Data<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.0.data)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let Some(window) = buffer.get_mut(..most) else {
            return Ok(0);
        };
        let n = self.0.reader.read(window)?;
        if n == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the archive ends within a file",
            ));
        }
        self.0.data -= n as u64;
        self.0.position += n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests;
