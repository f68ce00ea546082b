# DINOv2's recipe for its linear segmentation heads on ADE20K, for mmsegmentation's own tools, with the frozen
# backbone of rtok. With robustness tokens: --cfg-options model.backbone.defense=rtokens.safetensors
custom_imports = dict(imports=["rtok.heads.segmentation.models"])
default_scope = "mmseg"

crop_size = (512, 512)
data_root = "data/ade/ADEChallengeData2016"

model = dict(
    type="RtokSegmenter",
    # [0, 1] and RGB: the backbone normalizes.
    data_preprocessor=dict(
        type="SegDataPreProcessor", mean=[0.0] * 3, std=[255.0] * 3, bgr_to_rgb=True, size=crop_size
    ),
    backbone=dict(
        type="RtokBackbone",
        backbone="dinov2_vits14",
        weights="pretrained",
        image_size=518,  # windows of 512 pixels, padded to whole patches
        blocks=[8, 9, 10, 11],
        defense=None,
    ),
    decode_head=dict(
        type="BNHead",
        in_channels=[384],
        in_index=[3],  # the multi-scale head: all four, and as many in_channels
        input_transform="resize_concat",
        channels=384,
        dropout_ratio=0.0,
        num_classes=150,
        align_corners=False,
    ),
    test_cfg=dict(mode="slide", crop_size=crop_size, stride=(341, 341)),
)

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", reduce_zero_label=True),
    dict(type="RandomResize", scale=(99_999_999, 512), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type="RandomCrop", crop_size=crop_size, cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotoMetricDistortion"),
    dict(type="Pad", size=crop_size, pad_val=dict(img=(104, 116, 124), seg=255)),  # ImageNet's mean, BGR
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(99_999_999, 512), keep_ratio=True),
    dict(type="LoadAnnotations", reduce_zero_label=True),  # after Resize: measured at the picture's own size
    dict(type="PackSegInputs"),
]
train_dataloader = dict(
    batch_size=16,  # over all processes: DINOv2 had eight with two each
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type="ADE20KDataset",
        data_root=data_root,
        data_prefix=dict(img_path="images/training", seg_map_path="annotations/training"),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="ADE20KDataset",
        data_root=data_root,
        data_prefix=dict(img_path="images/validation", seg_map_path="annotations/validation"),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="IoUMetric", iou_metrics=["mIoU"])
test_evaluator = val_evaluator

optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=1e-3, weight_decay=1e-4, betas=(0.9, 0.999)))
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, begin=0, end=1500, by_epoch=False),
    dict(type="PolyLR", power=1.0, eta_min=0.0, begin=1500, end=40_000, by_epoch=False),
]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=40_000, val_interval=40_000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=50, log_metric_by_epoch=False),
    checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=4000),
)
# What is saved is the head alone, and `rtok eval-seg` reads it: head: {type: mmseg, path: iter_40000.pth}
custom_hooks = [dict(type="PlainCheckpointHook")]
log_processor = dict(by_epoch=False)
