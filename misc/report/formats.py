"""Names of the formats that misc/report/export.py writes, for flags: they are known without the libraries behind it."""

EXPORT_FORMATS = ("coco", "voc", "labelme", "masks")
