// One module per panel; each finds its own elements. To add a panel: a template, a module, a line here.
import { startAsk } from "./ask.js";
import { startCache } from "./cache.js";
import { startChat } from "./chat.js";
import { startFiles } from "./files.js";
import { startHello } from "./hello.js";
import { startJob } from "./job.js";
import { startNotes } from "./notes.js";
import { startOutgoing } from "./outgoing.js";
import { startQueries } from "./queries.js";
import { startRelease } from "./release.js";
import { startRoom } from "./room.js";
import { startStatus } from "./status.js";

const { refreshRelease } = startRelease();
startStatus();
startHello();
startNotes();
startChat({ onOpen: refreshRelease });
startRoom();
startAsk();
startJob();
startFiles();
startCache();
startQueries();
startOutgoing();
