// The shapes that the server answers with, for editors and `tsc --checkJs`; docs/api.md explains them.

/**
 * @typedef {{step: number, total_steps: number, seconds_per_step: ?number, eta_seconds: ?number, phase: ?string}} Progress
 *
 * @typedef {{concept_id: string, name: string, score: number, present: boolean}} Presence
 *
 * @typedef {{word: string, concept_id: ?string, coverage: number, url: string}} AttentionMap
 *
 * @typedef {object} Image
 * @property {string} id
 * @property {string} url
 * @property {string} thumbnail_url
 * @property {number} seed
 * @property {number} width
 * @property {number} height
 * @property {?[number, number]} cell
 * @property {?AttentionMap[]} attention_maps
 * @property {?Presence[]} presence
 *
 * @typedef {{name: string, beta: number, tau?: number, strength?: number}} Gate
 *
 * @typedef {{field: string, values: Array<number|string>}} Axis
 *
 * @typedef {object} GenerationRequest
 * @property {string} kind
 * @property {string} prompt
 * @property {Gate[]} concepts
 * @property {?{axes: Axis[]}} sweep
 * @property {?{image_id: ?string, mask: ?string, denoising_strength: number}} edit
 * @property {number} [seed]
 * @property {number} [num_images]
 *
 * @typedef {Image & {job_id: string, created_at: string, request: ?GenerationRequest}} LibraryImage
 *
 * @typedef {{code: string, detail: string, remedy: string}} Finding
 *
 * @typedef {{index: number, findings: Finding[], crop: [number, number, number, number], mask_source: string, mask_url: ?string}} InspectedPicture
 *
 * @typedef {{type: string, title: string, detail: string}} Warning
 *
 * @typedef {object} Job
 * @property {string} id
 * @property {"train"|"generate"|"inspect"|"judge"} kind
 * @property {"queued"|"running"|"succeeded"|"failed"|"cancelled"} status
 * @property {?Progress} progress
 * @property {?number} queue_position
 * @property {?string} concept_id
 * @property {Image[]} images
 * @property {?InspectedPicture[]} pictures
 * @property {?{title?: string, detail?: string}} error
 * @property {Warning[]} warnings
 * @property {?GenerationRequest} request
 * @property {string} created_at
 * @property {string} [preview] a data URL of the first unfinished image
 * @property {(?string)[]} [previews] a small data URL of each image that is sampled
 *
 * @typedef {object} Concept
 * @property {string} id
 * @property {string} name
 * @property {string} placeholder
 * @property {string} superclass
 * @property {string} status
 * @property {boolean} usable
 * @property {?string} reason
 * @property {?number} bytes
 * @property {?string} sha256
 * @property {?string} mask_source
 * @property {?string} job_id
 * @property {boolean} has_file_before
 * @property {?{quality: string, reasons: string[]}} verdict
 * @property {?number} recommended_strength
 * @property {?string} warning
 */

// A module without an export is a script to editors.
// oxlint-disable-next-line unicorn/require-module-specifiers
export {};
