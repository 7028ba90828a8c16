// The built program as its loader hands it over (packaging/loader.cjs); run from the sources there is none.

export type Bundle = {
  /** Another one for each build. */
  id: string;
  /** The program as one file, in ISO 8859-1. */
  text: () => string;
  /** Nothing of it was compiled anew. */
  isFromCache: () => boolean;
  /** False: it could not be kept a while ago. */
  triesToSave: () => boolean;
  /** Keeps the code of the whole program, compiled, for the next run, in that folder or where the loader looks for it. Never throws. */
  saveCode: (folder?: string) => void;
};

declare const KYLIN_VR_BUNDLE: Bundle | undefined;

export const BUNDLE: Bundle | undefined = typeof KYLIN_VR_BUNDLE === 'object' ? KYLIN_VR_BUNDLE : undefined;
