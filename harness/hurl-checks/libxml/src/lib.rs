//! Stands in for the crate `libxml`, by `[patch.crates-io]` in the workspace's manifest.
//!
//! `hurl_core` calls libxml2 for one purpose: to find where an XML body ends. The real crate needs
//! libxml2, its headers and libclang on every machine and in every image that builds this workspace.
//! This one refuses the first character of an XML body, so that `hurl_core` reports "invalid XML" at
//! its line. It has exactly the names that `hurl_core` uses; a new version that uses others does not
//! compile.

/// The names of libxml2 that `hurl_core` uses.
#[allow(non_snake_case, non_camel_case_types, missing_docs)]
pub mod bindings {
    use std::convert::Infallible;
    use std::ffi::{c_char, c_int, c_uint, c_void};

    pub type xmlChar = u8;
    pub type xmlSAXHandlerPtr = *mut xmlSAXHandler;
    pub const XML_SAX2_MAGIC: c_uint = 0xDEED_BEAF;

    /// A callback that `hurl_core` does not set.
    type Unset = Option<Infallible>;
    type DocumentCallback = Option<unsafe extern "C" fn(*mut c_void)>;
    type StartCallback = Option<
        unsafe extern "C" fn(
            *mut c_void,
            *const xmlChar,
            *const xmlChar,
            *const xmlChar,
            c_int,
            *mut *const xmlChar,
            c_int,
            c_int,
            *mut *const xmlChar,
        ),
    >;
    type EndCallback =
        Option<unsafe extern "C" fn(*mut c_void, *const xmlChar, *const xmlChar, *const xmlChar)>;

    pub struct xmlSAXHandler {
        pub internalSubset: Unset,
        pub isStandalone: Unset,
        pub hasInternalSubset: Unset,
        pub hasExternalSubset: Unset,
        pub resolveEntity: Unset,
        pub getEntity: Unset,
        pub entityDecl: Unset,
        pub notationDecl: Unset,
        pub attributeDecl: Unset,
        pub elementDecl: Unset,
        pub unparsedEntityDecl: Unset,
        pub setDocumentLocator: Unset,
        pub startDocument: DocumentCallback,
        pub endDocument: DocumentCallback,
        pub startElement: Unset,
        pub endElement: Unset,
        pub reference: Unset,
        pub characters: Unset,
        pub ignorableWhitespace: Unset,
        pub processingInstruction: Unset,
        pub comment: Unset,
        pub warning: Unset,
        pub error: Unset,
        pub fatalError: Unset,
        pub getParameterEntity: Unset,
        pub cdataBlock: Unset,
        pub externalSubset: Unset,
        pub initialized: c_uint,
        pub _private: *mut c_void,
        pub startElementNs: StartCallback,
        pub endElementNs: EndCallback,
        pub serror: Unset,
    }

    /// The parser. It has no state: it refuses everything.
    #[derive(Clone, Copy)]
    pub struct Context;

    pub fn xmlCreatePushParserCtxt(
        _: xmlSAXHandlerPtr,
        _: *mut c_void,
        _: *const c_char,
        _: c_int,
        _: *const c_char,
    ) -> Context {
        Context
    }

    /// Returns `XML_ERR_INTERNAL_ERROR`: the chunk is refused.
    pub fn xmlParseChunk(_: Context, _: *const c_char, _: c_int, _: c_int) -> c_int {
        1
    }

    pub fn xmlFreeParserCtxt(_: Context) {}
}
