_base_ = "_base_/linear_ade20k.py"
model = dict(
    backbone=dict(backbone="dinov2_vitl14_reg", blocks=[20, 21, 22, 23]),
    decode_head=dict(in_channels=[1024], channels=1024),
)
