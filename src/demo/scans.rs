//! What the demo's devices send: a scanned contract as PDF, a two-page fax as TIFF, an alarm as text.
//!
//! Invariant: the documents are valid and the same in every run for the same number; the messages have the faults
//! real devices have (no Date, no Message-ID, bare LF, a sender that is no address). Must not know: SMTP.

use mail_builder::mime::{BodyPart, MimePart};

/// A message as a device hands it to SMTP, and how to speak of it.
#[derive(Debug, Clone)]
pub struct Mail {
    /// Its Subject; one message's only.
    pub subject: String,
    /// The whole message, last line ended by CRLF, not dot-stuffed.
    pub bytes: Vec<u8>,
}

/// What a multifunction printer makes of a three-page contract: about 2.7 MB with a PDF of 2 MB, CRLF line ends,
/// no Date and no Message-ID.
pub fn contract(number: u32) -> Mail {
    let subject = format!("Scan from MFP-2 (contract {number})");
    let file = format!("contract-{number}.pdf");
    multipart("MFP-2 <mfp2@contoso.com>", subject, "application/pdf", file, contract_pdf(number))
}

/// What a fax server makes of a two-page fax: a bilevel TIFF of about 240 KB.
pub fn fax(number: u32) -> Mail {
    let subject = format!("Fax {number} received, 2 pages");
    let file = format!("fax-{number}.tif");
    multipart("Fax <fax@contoso.com>", subject, "image/tiff", file, fax_tiff(number))
}

/// What the network card of a UPS writes: bare LF, no MIME, and a From without a domain anybody could answer.
pub fn alarm(number: u32, text: &str) -> Mail {
    let subject = format!("UPS event {number}: {text}");
    let message = format!(
        "From: UPS rack 2 <ups@rack2>\nTo: it@contoso.com\nSubject: {subject}\n\n\
         {text}\nEvent: {number}\nLoad: 41 %\nBattery: 97 %, 38 min left\r\n"
    );
    Mail { subject, bytes: message.into_bytes() }
}

fn multipart(
    from: &'static str,
    subject: String,
    kind: &'static str,
    file: String,
    document: Vec<u8>,
) -> Mail {
    let parts = vec![
        MimePart::new("text/plain", format!("Please find {file} attached.\r\n")),
        MimePart::new(kind, BodyPart::Binary(document.into())).attachment(file),
    ];
    let mut body = Vec::new();
    MimePart::new("multipart/mixed", BodyPart::Multipart(parts)).write_part(&mut body);
    let head =
        format!("From: {from}\r\nTo: office@contoso.com\r\nSubject: {subject}\r\nMIME-Version: 1.0\r\n");
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(&body);
    if !bytes.ends_with(b"\r\n") {
        bytes.extend_from_slice(b"\r\n");
    }
    Mail { subject, bytes }
}

/// A sheet of paper as a scanner sees it: grey, grainy, with lines of "writing", a frame and a round stamp.
struct Sheet {
    width: usize,
    height: usize,
    /// One byte a pixel, 0 black, 255 white.
    grey: Vec<u8>,
}

impl Sheet {
    fn scan(width: usize, height: usize, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut sheet =
            Self { width, height, grey: (0..width * height).map(|_| rng.u8(238..=252)).collect() };
        let margin = width / 10;
        let line = height / 58;
        let mut y = height / 8;
        while y + line < height * 3 / 4 {
            let mut x = margin;
            let end = if rng.u8(..5) == 0 { width / 2 } else { width - margin };
            while x < end {
                let letter = width / 140 + rng.usize(..width / 200);
                if rng.u8(..6) > 0 {
                    let tall = rng.usize(line / 4..=line / 2);
                    sheet.fill(x, y + line / 2 - tall, letter.max(2) - 1, tall, &mut rng);
                }
                x += letter + width / 400 + 1;
            }
            y += line;
        }
        for (x, y, w, h) in [
            (margin / 2, margin / 2, width - margin, 2),
            (margin / 2, height - margin / 2, width - margin, 2),
            (margin / 2, margin / 2, 2, height - margin),
            (width - margin / 2, margin / 2, 2, height - margin),
            (margin, height * 17 / 20, width / 3, 2),
        ] {
            sheet.fill(x, y, w, h, &mut rng);
        }
        sheet.stamp(width * 7 / 10, height * 17 / 20, width / 12, &mut rng);
        sheet
    }

    fn fill(&mut self, x: usize, y: usize, width: usize, height: usize, rng: &mut fastrand::Rng) {
        for row in y..(y + height).min(self.height) {
            for column in x..(x + width).min(self.width) {
                self.grey[row * self.width + column] = rng.u8(20..60);
            }
        }
    }

    /// A ring between `radius` and four fifths of it.
    fn stamp(&mut self, x: usize, y: usize, radius: usize, rng: &mut fastrand::Rng) {
        for row in y.saturating_sub(radius)..(y + radius).min(self.height) {
            for column in x.saturating_sub(radius)..(x + radius).min(self.width) {
                let (dx, dy) = (row.abs_diff(y), column.abs_diff(x));
                let square = dx * dx + dy * dy;
                if square <= radius * radius && square * 25 >= radius * radius * 16 {
                    self.grey[row * self.width + column] = rng.u8(90..130);
                }
            }
        }
    }
}

/// Three pages of A4: a cover with text and lines, and two pages scanned at 100 dpi in grey.
fn contract_pdf(number: u32) -> Vec<u8> {
    const WIDTH: usize = 827;
    const HEIGHT: usize = 1169;
    let cover = format!(
        "BT /F1 26 Tf 72 740 Td (Contract no. {number}) Tj ET\n\
         BT /F1 12 Tf 72 700 Td 16 TL (Scanned at 100 dpi, grey, three pages.) Tj T*\n\
         (This document was drawn by the relay's own demonstration.) Tj ET\n\
         0.5 w 72 680 m 523 680 l S\n2 w 72 120 220 60 re S\nBT /F1 10 Tf 80 104 Td (Signature) Tj ET\n"
    );
    let page = "q 595 0 0 842 0 0 cm /Scan Do Q\n";
    let mut pdf = Pdf::new();
    pdf.object(b"<< /Type /Catalog /Pages 2 0 R >>");
    pdf.object(b"<< /Type /Pages /Kids [3 0 R 4 0 R 5 0 R] /Count 3 >>");
    for (contents, resources) in [
        (6, "/Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >>"),
        (7, "/XObject << /Scan 8 0 R >>"),
        (7, "/XObject << /Scan 9 0 R >>"),
    ] {
        let page = format!(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << {resources} >> \
             /Contents {contents} 0 R >>"
        );
        pdf.object(page.as_bytes());
    }
    pdf.stream("", cover.as_bytes());
    pdf.stream("", page.as_bytes());
    for side in 0..2 {
        let image = format!(
            "/Type /XObject /Subtype /Image /Width {WIDTH} /Height {HEIGHT} /ColorSpace /DeviceGray \
             /BitsPerComponent 8 "
        );
        pdf.stream(&image, &Sheet::scan(WIDTH, HEIGHT, u64::from(number) * 2 + side).grey);
    }
    pdf.finish()
}

/// Writes PDF 1.4: numbered objects, then the table of where each begins.
struct Pdf {
    out: Vec<u8>,
    offsets: Vec<usize>,
}

impl Pdf {
    fn new() -> Self {
        // The second line tells transfer programs that the file is binary (ISO 32000-1 section 7.5.2).
        Self { out: b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n".to_vec(), offsets: Vec::new() }
    }

    fn object(&mut self, content: &[u8]) {
        self.offsets.push(self.out.len());
        self.text(&format!("{} 0 obj\n", self.offsets.len()));
        self.out.extend_from_slice(content);
        self.text("\nendobj\n");
    }

    fn stream(&mut self, entries: &str, data: &[u8]) {
        let head = format!("<< {entries}/Length {} >>\nstream\n", data.len());
        self.object(&[head.as_bytes(), data, b"\nendstream"].concat());
    }

    fn text(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn finish(mut self) -> Vec<u8> {
        let table = self.out.len();
        let count = self.offsets.len() + 1;
        self.text(&format!("xref\n0 {count}\n0000000000 65535 f \n"));
        for offset in std::mem::take(&mut self.offsets) {
            self.text(&format!("{offset:010} 00000 n \n"));
        }
        self.text(&format!("trailer\n<< /Size {count} /Root 1 0 R >>\nstartxref\n{table}\n%%EOF\n"));
        self.out
    }
}

/// Two pages at the resolution of a fine fax, 204 by 196 dpi, bilevel, PackBits, strips of 64 rows.
fn fax_tiff(number: u32) -> Vec<u8> {
    const WIDTH: u32 = 1728;
    const HEIGHT: u32 = 2200;
    const ROWS_PER_STRIP: u32 = 64;
    let mut out = b"II\x2a\0".to_vec();
    let mut link = out.len();
    out.extend_from_slice(&[0; 4]);
    for page in 0..2 {
        let sheet = Sheet::scan(WIDTH as usize, HEIGHT as usize, 1000 + u64::from(number) * 2 + page);
        let mut strips = Vec::new();
        for rows in sheet.grey.chunks((WIDTH * ROWS_PER_STRIP) as usize) {
            let begin = out.len();
            for row in rows.chunks(WIDTH as usize) {
                pack_bits(&bilevel(row), &mut out);
            }
            strips.push((long(begin), long(out.len() - begin)));
        }
        let offsets = long(out.len());
        strips.iter().for_each(|(offset, _)| out.extend_from_slice(&offset.to_le_bytes()));
        let counts = long(out.len());
        strips.iter().for_each(|(_, count)| out.extend_from_slice(&count.to_le_bytes()));
        let resolution = long(out.len());
        [204u32, 1, 196, 1].iter().for_each(|n| out.extend_from_slice(&n.to_le_bytes()));
        if out.len() % 2 == 1 {
            out.push(0);
        }

        let directory = long(out.len());
        out[link..link + 4].copy_from_slice(&directory.to_le_bytes());
        let (short_type, long_type, rational) = (3u16, 4u16, 5u16);
        let entries = [
            (254u16, long_type, 1, 2u32), // NewSubfileType: one page of several
            (256, long_type, 1, WIDTH),
            (257, long_type, 1, HEIGHT),
            (258, short_type, 1, 1),     // BitsPerSample
            (259, short_type, 1, 32773), // Compression: PackBits
            (262, short_type, 1, 0),     // PhotometricInterpretation: WhiteIsZero
            (273, long_type, long(strips.len()), offsets),
            (277, short_type, 1, 1), // SamplesPerPixel
            (278, long_type, 1, ROWS_PER_STRIP),
            (279, long_type, long(strips.len()), counts),
            (282, rational, 1, resolution),
            (283, rational, 1, resolution + 8),
            (296, short_type, 1, 2), // ResolutionUnit: inch
        ];
        out.extend_from_slice(&u16::try_from(entries.len()).expect("thirteen fit").to_le_bytes());
        for (tag, kind, count, value) in entries {
            out.extend_from_slice(&tag.to_le_bytes());
            out.extend_from_slice(&kind.to_le_bytes());
            out.extend_from_slice(&count.to_le_bytes());
            out.extend_from_slice(&value.to_le_bytes());
        }
        link = out.len();
        out.extend_from_slice(&[0; 4]);
    }
    out
}

fn long(n: usize) -> u32 {
    u32::try_from(n).expect("the demo's fax is far below 4 GiB")
}

/// Eight pixels a byte, the first in the highest bit; ink is one.
fn bilevel(row: &[u8]) -> Vec<u8> {
    row.chunks(8)
        .map(|pixels| {
            pixels.iter().enumerate().fold(0, |byte, (i, grey)| byte | u8::from(*grey < 128) << (7 - i))
        })
        .collect()
}

/// TIFF 6.0 section 9: runs of the same byte as (1 - n, byte), anything else as (n - 1, bytes).
fn pack_bits(row: &[u8], out: &mut Vec<u8>) {
    let mut rest = row;
    while let Some(first) = rest.first() {
        let run = rest.iter().take(128).take_while(|b| *b == first).count();
        if run > 1 {
            let n = u8::try_from(257 - run).expect("a run is 2 to 128 long");
            out.extend_from_slice(&[n, *first]);
            rest = &rest[run..];
            continue;
        }
        let literal = rest.windows(2).take(127).take_while(|w| w[0] != w[1]).count().max(1);
        out.push(u8::try_from(literal - 1).expect("a literal is 1 to 127 long"));
        out.extend_from_slice(&rest[..literal]);
        rest = &rest[literal..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpack_bits(mut packed: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        while let [n, rest @ ..] = packed {
            let n = usize::from(*n);
            if n < 128 {
                out.extend_from_slice(&rest[..=n]);
                packed = &rest[n + 1..];
            } else {
                out.extend(std::iter::repeat_n(rest[0], 257 - n));
                packed = &rest[1..];
            }
        }
        out
    }

    #[test]
    fn packed_rows_unpack_to_themselves() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut rows = vec![vec![], vec![0; 1], vec![0; 128], vec![0; 129], vec![1, 2], vec![1, 2, 2, 3]];
        rows.push((0..=255).cycle().take(600).collect());
        rows.extend((0..200).map(|_| (0..216).map(|_| rng.u8(..3)).collect()));
        for row in rows {
            let mut packed = Vec::new();
            pack_bits(&row, &mut packed);
            assert_eq!(unpack_bits(&packed), row);
        }
    }

    #[test]
    fn every_offset_in_the_pdf_points_at_its_object() {
        let pdf = contract_pdf(3);
        let text = String::from_utf8_lossy(&pdf);
        let table: usize =
            text.rsplit("startxref\n").next().unwrap().lines().next().unwrap().parse().unwrap();
        let table = String::from_utf8_lossy(&pdf[table..]).into_owned();
        let entries: Vec<usize> = table.lines().skip(3).take(9).map(|l| l[..10].parse().unwrap()).collect();
        for (i, offset) in entries.iter().enumerate() {
            assert!(pdf[*offset..].starts_with(format!("{} 0 obj\n", i + 1).as_bytes()), "object {}", i + 1);
        }
    }

    #[test]
    fn messages_have_the_faults_of_their_devices() {
        for mail in [contract(1), fax(1), alarm(1, "on battery")] {
            let head_end = memchr::memmem::find(&mail.bytes, b"\r\n\r\n").unwrap_or(mail.bytes.len());
            let head = String::from_utf8_lossy(&mail.bytes[..head_end]).to_lowercase();
            assert!(!head.contains("message-id:") && !head.contains("\ndate:"), "{head}");
            assert!(mail.bytes.ends_with(b"\r\n"));
            assert!(mail.bytes.len() < 4_000_000, "{}", mail.bytes.len());
        }
        let alarm = alarm(1, "on battery").bytes;
        assert_eq!(memchr::memmem::find_iter(&alarm, b"\r\n").count(), 1, "only the last line ends in CRLF");
    }
}
